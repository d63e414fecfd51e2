"""Samplers of the literature: which candidates are the negatives of each query.

All take scores (Q, N) float, target columns (Q,) int64 and exclusions (Q, N) bool, and give (Q, N)
bool in which neither the target nor anything excluded is ever True.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cir_plugins.plugins.ranges import Count
from cir_plugins.retrieval.ranking import top_k


def eligible(target: Tensor, excluded: Tensor) -> Tensor:
    """Candidates (Q, N) bool that may be negatives: neither the target nor excluded."""
    allowed = ~excluded
    return allowed.scatter(1, target[:, None], False)


class InBatch:
    """Every candidate that is neither the target nor excluded."""

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        return eligible(target, excluded)


class Random(InBatch):
    """The pool of ``in_batch``, for drawing from the whole corpus (``negatives = "mined"``)."""


class Hardest:
    """The candidates with the highest scores.

    Args:
        count: How many per query, at least 1. Ties go to the lower column.
    """

    def __init__(self, *, count: Count = 1) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self.count = count

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        allowed = eligible(target, excluded)
        masked = scores.float().masked_fill(~allowed, -torch.inf)
        columns = top_k(masked, self.count)[1]
        return torch.zeros_like(allowed).scatter(1, columns, True) & allowed


class SemiHard:
    """Candidates below the target by less than a margin.

    Args:
        margin: Width of the band below the target's score, above 0 (cosine).

    Source: Schroff et al., FaceNet, CVPR 2015, arXiv 1503.03832, section 3.2.
    """

    def __init__(self, *, margin: Annotated[float, Field(gt=0)] = 0.2) -> None:
        if margin <= 0:
            raise ValueError(f"margin must be above 0, not {margin}")
        self.margin = margin

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        below = scores.gather(1, target[:, None]) - scores
        return eligible(target, excluded) & (below > 0) & (below < self.margin)
