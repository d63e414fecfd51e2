"""Galleries so large that the scores of 40 queries take several blocks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import Encoded

# With so many images a block of scores holds 16 of the 40 queries.
MANY_IMAGES = 163_000


def with_empty_last(kind: type[Method]) -> type[Method]:
    """The method with images of an empty embedding below all others."""

    class EmptyLast(kind):  # type: ignore[misc, valid-type]
        def similarity(self, query: Tensor, target: Tensor) -> Tensor:
            scores: Tensor = super().similarity(query, target)
            return scores.masked_fill((target == 0).flatten(1).all(dim=1), -2.0)

    return EmptyLast


def widened(encoded: Encoded) -> Encoded:
    """The encoded split with images that rank behind all others, more than a block can hold."""
    targets = torch.zeros(MANY_IMAGES, *encoded.targets.shape[1:])
    targets[: len(encoded.targets)] = encoded.targets
    names = (f"far-{number}" for number in range(MANY_IMAGES - len(encoded.targets)))
    gallery = (*encoded.split.gallery, *names)
    return replace(encoded, split=replace(encoded.split, gallery=gallery), targets=targets)
