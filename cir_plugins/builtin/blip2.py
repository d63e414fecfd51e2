"""BLIP-2's image-text retrieval model as a backbone: a frozen ViT and a Q-Former over it.

Source: Li, Li, Savarese, Hoi, BLIP-2, ICML 2023, arXiv 2301.12597, section 3.1 (first stage).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.builtin.towers import LN_VISION_EPS, TOWERS
from cir_plugins.errors import CIRError
from cir_plugins.images import Preprocess
from cir_plugins.method import Fused
from cir_plugins.types import Tokens

WEIGHTS = Path(__file__).parent / "weights"


class Blip2(nn.Module):
    """BLIP-2 stage one: queries are fused query tokens, targets are T token vectors.

    The composed query is the mean of the projected query tokens (QuRe's); a target keeps its T
    tokens and is scored by the best of them.

    Args:
        model: Hub name or local folder of a ``Blip2ForImageTextRetrieval``. The ``model_type`` of
            a folder's vision config chooses the tower: BLIP-2's own EVA ViT, ``clip_vision_model``
            (the ViT-L variant of QuRe and SPRC) or ``timm_resnet``.
        weights: ``pretrained``, or ``random`` to build the model from the folder's (or the hub's)
            configuration alone.
        vision: ``frozen``: the ViT is in evaluation mode and gets no gradient, so its features can
            be computed once; ``trained``: it is tuned with the rest.
        image_size: Side of the input in pixels; 0 for the model's own. Position embeddings are
            interpolated where it differs.
        resize: How an image becomes a square (see ``cir_plugins.images``).
        text_length: Longest text in tokens, [CLS] and [SEP] included.
        dropout: Dropout of the Q-Former, hidden states and attention, in [0, 1); -1 for the
            model's own.

    Raises:
        CIRError: If the model cannot be loaded; names what was tried.
    """

    offers: ClassVar[frozenset[str]] = frozenset(
        {"query_tokens", "image_embedding", "text_embedding"}
    )

    def __init__(
        self,
        *,
        model: str = "Salesforce/blip2-itm-vit-g",
        weights: Literal["pretrained", "random"] = "pretrained",
        vision: Literal["frozen", "trained"] = "frozen",
        image_size: int = 0,
        resize: Literal["target_pad", "square_pad", "clip", "squash"] = "target_pad",
        text_length: int = 32,
        dropout: float = -1.0,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = _load(model, weights, dropout)
        own_size = int(self.model.config.vision_config.image_size)
        self.frozen_features = vision == "frozen"
        self.text_length = text_length
        self.preprocess = Preprocess(size=image_size or own_size, resize=resize)
        self.interpolate = bool(image_size) and image_size != own_size
        if self.frozen_features:
            # ln_vision sits on top of the frozen ViT and is trained by SPRC and QuRe; here it is
            # part of the cached features and therefore frozen too.
            self.model.vision_model.requires_grad_(False)
        self.model.itm_head.requires_grad_(False)

    def train(self, mode: bool = True) -> Blip2:
        """This module in training mode, its ViT in evaluation mode while frozen."""
        super().train(mode)
        if self.frozen_features:
            self.model.vision_model.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Word-piece ids and masks (n, L), padded to the longest text, at most ``text_length``."""
        encoded = self.tokenizer(
            list(texts),
            padding="longest",
            truncation=True,
            max_length=self.text_length,
            return_tensors="pt",
        )
        return {"ids": encoded["input_ids"], "mask": encoded["attention_mask"]}

    def features(self, images: Tensor) -> Tensor:
        """ViT states (U, P, W) of the image patches and [CLS], after the vision layer norm."""
        output = self.model.vision_model(images, interpolate_pos_encoding=self.interpolate)
        states: Tensor = output.last_hidden_state
        return states

    def fuse(self, features: Tensor, tokens: Tokens) -> Fused:
        """Q-Former states of [query tokens; text] over the image."""
        queries = self._queries(features.shape[0])
        embedded = self.model.embeddings(input_ids=tokens["ids"], query_embeds=queries)
        seen = torch.ones(queries.shape[:2], dtype=torch.long, device=features.device)
        hidden = self.model.qformer(
            query_embeds=embedded,
            query_length=queries.shape[1],
            attention_mask=torch.cat([seen, tokens["mask"]], dim=1),
            encoder_hidden_states=features,
        ).last_hidden_state
        return Fused(hidden[:, : queries.shape[1]], hidden[:, queries.shape[1]])

    def query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Mean of the projected query tokens (B, D), unit length.

        Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416.
        """
        return unit(self.project_text(self.fuse(features, tokens).tokens).mean(dim=1))

    def target(self, features: Tensor) -> Tensor:
        """Projected query tokens of an image alone (C, T, D), each of unit length."""
        hidden = self.model.qformer(
            query_embeds=self._queries(features.shape[0]), encoder_hidden_states=features
        ).last_hidden_state
        return unit(self.model.vision_projection(hidden))

    def image(self, features: Tensor) -> Tensor:
        """One vector per image (B, D): the mean of its target tokens at unit length."""
        return unit(self.target(features).mean(dim=1))

    def text(self, tokens: Tokens) -> Tensor:
        """One vector per text (B, D): projected [CLS] of the text alone, unit length."""
        embedded = self.model.embeddings(input_ids=tokens["ids"])
        hidden = self.model.qformer(
            query_embeds=embedded, query_length=0, attention_mask=tokens["mask"]
        ).last_hidden_state
        return unit(self.project_text(hidden[:, 0]))

    def project_text(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., H) in the space of the scores (..., D), not normalised."""
        projected: Tensor = self.model.text_projection(hidden)
        return projected

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Mean word-piece embedding (n, H) of each of the words, without gradient."""
        table = self.model.embeddings.word_embeddings.weight.detach()
        ids = [self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        return torch.stack([table[row].mean(dim=0) for row in ids])

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine of the query with the best target token (B, C)."""
        return best_token(query, target)

    def save(self, folder: Path) -> None:
        """Write model, configuration and tokenizer into a folder that ``model`` takes."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _queries(self, images: int) -> Tensor:
        tokens: Tensor = self.model.query_tokens.expand(images, -1, -1)
        return tokens


class TinyBlip2(Blip2):
    """BLIP-2 at a small size, with weights the project trained on drawn garments.

    Args:
        vision: As for ``blip2``; by default tuned, since drawn garments are not photographs.
        start: ``drawn`` for the project's weights, ``random`` to start from nothing.
        text_length: Longest text in tokens.
        dropout: Dropout of the Q-Former, in [0, 1).
    """

    def __init__(
        self,
        *,
        vision: Literal["frozen", "trained"] = "trained",
        start: Literal["drawn", "random"] = "drawn",
        text_length: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(
            model=str(WEIGHTS / "tiny_blip2"),
            weights="pretrained" if start == "drawn" else "random",
            vision=vision,
            text_length=text_length,
            dropout=dropout,
        )


def _load(name: str, weights: str, dropout: float) -> tuple[Any, Any]:
    """Model in fp32 and tokenizer, by hub name or from a local folder."""
    from transformers import AutoTokenizer, Blip2Config

    config, vision = _configuration(name)
    if dropout >= 0:
        config["qformer_config"]["hidden_dropout_prob"] = dropout
        config["qformer_config"]["attention_probs_dropout_prob"] = dropout
    try:
        model = _build(Blip2Config.from_dict(config), vision)
        if weights == "pretrained":
            _read_weights(model, name)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise CIRError(f"BLIP-2 model '{name}' could not be loaded: {error}") from error
    return model, tokenizer


def _configuration(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The model's configuration, and that of its vision tower where it is not BLIP-2's own."""
    from transformers.utils import cached_file

    try:
        path = cached_file(name, "config.json")
    except OSError as error:
        raise CIRError(
            f"no BLIP-2 model '{name}': {str(error).splitlines()[0]}\n"
            "accepted: a hub name, or a folder with config.json, model.safetensors and a tokenizer"
        ) from error
    config = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    vision = config.get("vision_config", {})
    if vision.get("model_type") not in TOWERS:
        return config, None
    # The Q-Former takes its key and value width from the vision config's hidden size; the layers
    # themselves come from the tower that replaces the EVA one.
    placeholder = {
        "hidden_size": vision["hidden_size"],
        "image_size": vision["image_size"],
        "patch_size": vision.get("patch_size", vision["image_size"]),
        "num_hidden_layers": 0,
    }
    return {**config, "vision_config": placeholder}, vision


def _build(config: Any, vision: dict[str, Any] | None) -> Any:
    from transformers import Blip2ForImageTextRetrieval

    config.qformer_config.use_qformer_text_input = True
    model = Blip2ForImageTextRetrieval(config)
    if vision is not None:
        model.vision_model = TOWERS[vision["model_type"]](vision)
    else:
        model.vision_model.post_layernorm.eps = LN_VISION_EPS
    # transformers leaves them at zero, all alike: from random weights they would stay alike.
    torch.nn.init.normal_(model.query_tokens, std=config.qformer_config.initializer_range)
    return model


def _read_weights(model: nn.Module, name: str) -> None:
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    index = cached_file(
        name, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False
    )
    if index is None:
        shards = [cached_file(name, "model.safetensors")]
    else:
        files = set(json.loads(Path(str(index)).read_text(encoding="utf-8"))["weight_map"].values())
        shards = [cached_file(name, file) for file in sorted(files)]
    state: dict[str, Tensor] = {}
    for shard in shards:
        state.update(load_file(str(shard)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    unexpected = [key for key in unexpected if not key.endswith("position_ids")]
    if missing or unexpected:
        raise CIRError(
            f"weights of '{name}' do not fit a Blip2ForImageTextRetrieval: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
