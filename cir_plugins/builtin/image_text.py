"""Base of the backbones on image-text models of transformers: tokens, ViT, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from cir_plugins.builtin.similarity import best_token
from cir_plugins.builtin.tokenizers import WordPieceTokenizer
from cir_plugins.data.images import Preprocess, Resize
from cir_plugins.types import Tokens


class ImageTextModel(nn.Module):
    """A model with a ViT ``vision_model``, frozen or trained, an ``itm_head`` and a tokenizer.

    The matching head is always frozen: neither queries nor targets go through it.

    Args:
        model: The model, with a configuration of transformers.
        tokenizer: Of its texts.
        frozen: Whether the ViT is in evaluation mode and gets no gradient.
        image_size: Side of the input in pixels; 0 for the model's own.
        resize: How an image becomes a square (see ``cir_plugins.data.images``).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: WordPieceTokenizer,
        *,
        frozen: bool,
        image_size: int,
        resize: Resize,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        default_size = int(model.config.vision_config.image_size)
        self.frozen_features = frozen
        self.preprocess = Preprocess(size=image_size or default_size, resize=resize)
        self.interpolate = bool(image_size) and image_size != default_size
        if frozen:
            model.vision_model.requires_grad_(False)
        model.itm_head.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """This module in training mode, its ViT in evaluation mode while frozen."""
        super().train(mode)
        if self.frozen_features:
            self.model.vision_model.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Word-piece ids and masks (n, L), padded to the longest text, at most ``text_length``."""
        return self.tokenizer(texts)

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine (B, C) of the query with the target, or with the best of its tokens."""
        return best_token(query, target)
