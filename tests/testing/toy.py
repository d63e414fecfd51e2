"""The smallest backbone that keeps the contract."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cir_plugins import Features, Tokens, best_token, unit


class Toy(nn.Module):
    """A backbone of one linear layer over 4 x 4 pixels, and of letters counted."""

    offers: ClassVar[frozenset[str]] = frozenset({"image_embedding", "text_embedding"})
    frozen_features: Any = False

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.pixels = nn.Linear(48, 8)
            self.letters = nn.Linear(26, 8)

    @staticmethod
    def preprocess(image: Any) -> Tensor:
        """Pixels (3, 4, 4)."""
        data = image.resize((4, 4)).tobytes()
        return torch.tensor(list(data), dtype=torch.float32).view(4, 4, 3).permute(2, 0, 1) / 255

    @staticmethod
    def tokenize(texts: Any) -> Tokens:
        """Counts of letters (n, 26)."""
        rows = [[text.count(chr(97 + letter)) for letter in range(26)] for text in texts]
        return {"counts": torch.tensor(rows, dtype=torch.float32)}

    def features(self, images: Tensor) -> Features:
        """Features (U, 8)."""
        return self.pixels(images.flatten(1))

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Queries (B, 8)."""
        return unit(features + self.letters(tokens["counts"]))

    def encode_gallery(self, features: Features) -> Tensor:
        """Targets (C, 8)."""
        return unit(features)

    def image(self, features: Features) -> Tensor:
        """Images (U, 8)."""
        return unit(features)

    def text(self, tokens: Tokens) -> Tensor:
        """Texts (B, 8)."""
        return unit(self.letters(tokens["counts"]))

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Scores (B, C)."""
        return best_token(query, target)
