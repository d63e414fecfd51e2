"""Training-free methods as reference points: image alone, text alone, and their late fusions.

Each uses the loaded backbone's embeddings of one image and of one text.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from cir_plugins.builtin.similarity import unit
from cir_plugins.config.settings import Recipe, TrainSettings
from cir_plugins.method import Components, Method
from cir_plugins.plugins.ranges import Share
from cir_plugins.types import Features, Tokens

_UNTRAINED = TrainSettings(epochs=0)


class ImageOnly(Method):
    """The reference image alone is the query."""

    recipe = Recipe(source="lower bound: the text is ignored", train=_UNTRAINED)
    needs: ClassVar[frozenset[str]] = frozenset({"image_embedding"})
    trained: ClassVar[bool] = False

    def __init__(self, components: Components) -> None:
        super().__init__(components)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Image embeddings (B, D)."""
        embedded: Tensor = self.backbone.image(features)
        return embedded


class TextOnly(Method):
    """The text alone is the query."""

    recipe = Recipe(source="lower bound: the reference image is ignored", train=_UNTRAINED)
    needs: ClassVar[frozenset[str]] = frozenset({"text_embedding"})
    trained: ClassVar[bool] = False

    def __init__(self, components: Components) -> None:
        super().__init__(components)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Text embeddings (B, D)."""
        embedded: Tensor = self.backbone.text(tokens)
        return embedded


class ImageTextSum(Method):
    """The normalised sum of image and text embedding is the query.

    Args:
        text_weight: Share of the text in the sum, in [0, 1].
    """

    recipe = Recipe(source="training-free late fusion: sum of embeddings", train=_UNTRAINED)
    needs: ClassVar[frozenset[str]] = frozenset({"image_embedding", "text_embedding"})
    trained: ClassVar[bool] = False

    def __init__(self, components: Components, *, text_weight: Share = 0.5) -> None:
        super().__init__(components)
        if not 0 <= text_weight <= 1:
            raise ValueError(f"text_weight must lie in [0, 1], not {text_weight}")
        self.text_weight = text_weight

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed embeddings (B, D)."""
        image: Tensor = self.backbone.image(features)
        text: Tensor = self.backbone.text(tokens)
        return unit((1 - self.text_weight) * image + self.text_weight * text)

    def encode_weighted(self, features: Features, tokens: Tokens, weight: Tensor) -> Tensor:
        """Composed embeddings (B, D), each with its own share of the text.

        Args:
            features: Of B images.
            tokens: Of B texts.
            weight: (B, 1) float64, share of the text, in [0, 1].
        """
        image: Tensor = self.backbone.image(features)
        text: Tensor = self.backbone.text(tokens)
        return unit((1 - weight).to(image.dtype) * image + weight.to(text.dtype) * text)


class ImageTextProduct(Method):
    """The score is the product of the image's and the text's score, each moved to [0, 1].

    The query is two vectors (B, 2, D): image and text.
    """

    recipe = Recipe(source="training-free late fusion: product of scores", train=_UNTRAINED)
    needs: ClassVar[frozenset[str]] = frozenset({"image_embedding", "text_embedding"})
    trained: ClassVar[bool] = False

    def __init__(self, components: Components) -> None:
        super().__init__(components)

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Image and text embeddings (B, 2, D)."""
        return torch.stack([self.backbone.image(features), self.backbone.text(tokens)], dim=1)

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Product of the two scores (B, C), each (1 + cosine) / 2."""
        image: Tensor = self.backbone.similarity(query[:, 0], target)
        text: Tensor = self.backbone.similarity(query[:, 1], target)
        return (1 + image) / 2 * ((1 + text) / 2)
