"""A small convolutional tower for BLIP, and its start weights from drawn garments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins import WEIGHTS, Ledger, ResNetTower

TINY = WEIGHTS / "tiny_blip2"  # start weights and tokenizer of the small BLIP
_TEXT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_TOKENS = ("vocab_size", "max_position_embeddings")
_WORDS = "text_encoder.embeddings.word_embeddings.weight"


def tiny_config() -> dict[str, Any]:
    """Configuration of the small BLIP: sizes of ``tiny_blip2``, two more words ([DEC], [ENC])."""
    config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    text = {key: config["qformer_config"][key] for key in (*_TEXT, *_TOKENS)}
    words = text["vocab_size"]
    text |= {"is_decoder": True, "vocab_size": words + 2, "bos_token_id": words}
    text["initializer_range"] = 0.1
    return {
        "image_text_hidden_size": config["image_text_hidden_size"],
        "vision_config": config["vision_config"],
        "text_config": text,
    }


class PooledTower(nn.Module):
    """The small ResNet of ``tiny_blip2``, with the mean state first, in place of [CLS].

    Args:
        config: As for ``ResNetTower``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.tower = ResNetTower(config)

    def states(self, images: Tensor) -> Tensor:
        """States (U, P, W) after the layer norm, that of the whole image first."""
        states: Tensor = self.tower.post_layernorm(self.tower.states(images, False))
        return states


def start_drawn(model: nn.Module) -> None:
    """Load the weights of ``tiny_blip2`` into a small BLIP; other weights stay."""
    from safetensors.torch import load_file

    drawn = {key: v.float() for key, v in load_file(str(TINY / "model.safetensors")).items()}
    state = from_tiny_blip2(drawn)
    initial = model.state_dict()
    state[_WORDS] = torch.cat([state[_WORDS], initial[_WORDS][len(state[_WORDS]) :]])
    model.load_state_dict({**initial, **state})


def from_tiny_blip2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tower and text layers of a ``tiny_blip2`` under the keys of the small BLIP.

    The text path of BLIP-2's Q-Former is a BERT, with the same layers as BLIP's encoder. Cross
    attention is in every second layer there and in every layer here, so some of it is missing.
    """
    ledger = Ledger(state, "tiny_blip2")
    attention = r"(attention|crossattention)"
    layer = r"qformer\.encoder\.layer\.(\d+)\."
    ours = r"text_encoder.encoder.layer.\1."
    renamed = ledger.rename(r"vision_model\.(.+)", r"vision_model.tower.\1")
    renamed |= ledger.rename(r"embeddings\.(\w+_embeddings\..+)", r"text_encoder.embeddings.\1")
    renamed |= ledger.rename(r"qformer\.layernorm\.(\w+)", r"text_encoder.embeddings.LayerNorm.\1")
    renamed |= ledger.rename(rf"{layer}{attention}\.attention\.(.+)", rf"{ours}\2.self.\3")
    renamed |= ledger.rename(rf"{layer}{attention}\.output\.(.+)", rf"{ours}\2.output.\3")
    renamed |= ledger.rename(rf"{layer}(intermediate|output)\.(.+)", rf"{ours}\2.\3")
    ledger.drop(
        r".+\.(intermediate|output)_query\..+",  # the query tokens' own feed-forward layers
        r"query_tokens|(vision|text)_projection\..+|itm_head\..+|embeddings\.position_ids",
    )
    ledger.finish()
    return renamed
