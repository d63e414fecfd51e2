"""BLIP-2's state dicts in LAVIS' naming, under the keys of the host's ``blip2``."""

from __future__ import annotations

import torch
from torch import Tensor

from cir_plugins import Ledger

VIT = "visual_encoder."
_LAYER = r"Qformer\.bert\.encoder\.layer\.(\d+)\."
# Official pattern -> name in transformers' Blip2ForImageTextRetrieval with the host's towers.
_RENAMES: tuple[tuple[str, str], ...] = (
    ("query_tokens", "query_tokens"),
    (r"ln_vision\.(weight|bias)", r"vision_model.post_layernorm.\1"),
    (r"Qformer\.bert\.embeddings\.LayerNorm\.(weight|bias)", r"qformer.layernorm.\1"),
    (
        r"Qformer\.bert\.embeddings\.(word|position)_embeddings\.weight",
        r"embeddings.\1_embeddings.weight",
    ),
    (_LAYER + r"attention\.self\.(.+)", r"qformer.encoder.layer.\1.attention.attention.\2"),
    (
        _LAYER + r"crossattention\.self\.(.+)",
        r"qformer.encoder.layer.\1.crossattention.attention.\2",
    ),
    (_LAYER + r"(.+)", r"qformer.encoder.layer.\1.\2"),
    (r"(vision|text)_proj\.(weight|bias)", r"\1_projection.\2"),
    (r"itm_head\.(weight|bias)", r"itm_head.\1"),
)
EVA_LAYER = "vision_model.encoder.layers."
_EVA: tuple[tuple[str, str], ...] = (
    (r"visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.(.+)", r"vision_model.embeddings.patch_embedding.\1"),
    (r"visual_encoder\.blocks\.(\d+)\.norm([12])\.(.+)", EVA_LAYER + r"\1.layer_norm\2.\3"),
    (r"visual_encoder\.blocks\.(\d+)\.attn\.proj\.(.+)", EVA_LAYER + r"\1.self_attn.projection.\2"),
    (
        r"visual_encoder\.blocks\.(\d+)\.attn\.qkv\.weight",
        EVA_LAYER + r"\1.self_attn.qkv.weight",
    ),
    (r"visual_encoder\.blocks\.(\d+)\.mlp\.(fc[12]\..+)", EVA_LAYER + r"\1.mlp.\2"),
)
CLIP_LAYER = "vision_model.clip.encoder.layers."
_RES = r"visual_encoder\.transformer\.resblocks\.(\d+)\."
_CLIP: tuple[tuple[str, str], ...] = (
    (r"visual_encoder\.class_embedding", "vision_model.clip.embeddings.class_embedding"),
    (
        r"visual_encoder\.positional_embedding",
        "vision_model.clip.embeddings.position_embedding.weight",
    ),
    (r"visual_encoder\.conv1\.weight", "vision_model.clip.embeddings.patch_embedding.weight"),
    (r"visual_encoder\.ln_pre\.(.+)", r"vision_model.clip.pre_layrnorm.\1"),
    (_RES + r"ln_([12])\.(.+)", CLIP_LAYER + r"\1.layer_norm\2.\3"),
    (_RES + r"attn\.out_proj\.(.+)", CLIP_LAYER + r"\1.self_attn.out_proj.\2"),
    (_RES + r"mlp\.c_fc\.(.+)", CLIP_LAYER + r"\1.mlp.fc1.\2"),
    (_RES + r"mlp\.c_proj\.(.+)", CLIP_LAYER + r"\1.mlp.fc2.\2"),
)


def blip2_state(ledger: Ledger, prefix: str = "") -> dict[str, Tensor]:
    """State of a ``blip2`` backbone's model in fp32, taken from a state in LAVIS' naming.

    The language-model head and position ids count as used and are discarded. Other keys that are
    not BLIP-2's stay in the ledger.

    Args:
        ledger: The official state.
        prefix: Put before every key, such as ``backbone.model.``.

    Differs: a key bias that the EVA ViT never had becomes the zeros in the middle of ``qkv.bias``.
    """
    state: dict[str, Tensor] = {}
    for pattern, replacement in (*_RENAMES, *_EVA, *_CLIP):
        state |= ledger.rename(pattern, replacement)
    state |= _eva_biases(ledger)
    state |= _clip_thirds(ledger)
    ledger.drop(r"Qformer\.cls\..*", r"Qformer\.bert\.embeddings\.position_ids")
    return {prefix + key: value.float() for key, value in state.items()}


def _eva_biases(ledger: Ledger) -> dict[str, Tensor]:
    queries = ledger.rename(r"visual_encoder\.blocks\.(\d+)\.attn\.q_bias", r"\1")
    biases = {}
    for block, query in queries.items():
        value = ledger.take(f"{VIT}blocks.{block}.attn.v_bias")
        if value is not None:
            joined = torch.cat([query, torch.zeros_like(query), value])
            biases[f"{EVA_LAYER}{block}.self_attn.qkv.bias"] = joined
    return biases


def _clip_thirds(ledger: Ledger) -> dict[str, Tensor]:
    stacked = ledger.rename(_RES + r"attn\.in_proj_(weight|bias)", r"\1 \2")
    thirds = {}
    for key, joined in stacked.items():
        block, _, kind = key.partition(" ")
        for name, third in zip(("q", "k", "v"), joined.chunk(3), strict=True):
            thirds[f"{CLIP_LAYER}{block}.self_attn.{name}_proj.{kind}"] = third
    return thirds
