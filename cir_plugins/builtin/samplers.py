"""Samplers of the literature: which candidates are the negatives of each query.

All take scores (Q, N) float, target columns (Q,) int64 and exclusions (Q, N) bool, and give (Q, N)
bool in which neither the target nor anything excluded is ever True.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cir_plugins.method import eligible
from cir_plugins.plugins.ranges import Count
from cir_plugins.retrieval.ranking import top_k


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


class AfterTarget:
    """A fixed number of candidates that rank right after the target.

    Args:
        count: How many per query, at least 1. Ties go to the lower column.
        skip: How many of the first ones below the target are left out, at least 0.

    Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416, figure 4 (a fixed 100 after the target,
    which it is compared with).
    """

    def __init__(self, *, count: Count = 100, skip: Annotated[int, Field(ge=0)] = 0) -> None:
        if count < 1 or skip < 0:
            raise ValueError(f"count must be at least 1 and skip at least 0, not {count}, {skip}")
        self.count = count
        self.skip = skip

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        first = self._first(scores, target, excluded, self.skip + self.count)
        return first & ~self._first(scores, target, excluded, self.skip)

    def ambiguous(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Candidates (Q, N) bool at or above the target, and those that are skipped below it."""
        above = eligible(target, excluded) & (scores >= scores.gather(1, target[:, None]))
        return above | self._first(scores, target, excluded, self.skip)

    def _first(self, scores: Tensor, target: Tensor, excluded: Tensor, count: int) -> Tensor:
        """The first candidates (Q, N) bool below the target."""
        below = eligible(target, excluded) & (scores < scores.gather(1, target[:, None]))
        if not count:
            return torch.zeros_like(below)
        columns = top_k(scores.float().masked_fill(~below, -torch.inf), count)[1]
        return torch.zeros_like(below).scatter(1, columns, True) & below


class PercentOfPositive:
    """The best candidates among those that score at most a share of the target's score.

    The cap is s_target - (1 - share) |s_target|, so that it lies below the target's score whatever
    its sign.

    Args:
        share: Share of the target's score, in (0, 1].
        count: How many per query, at least 1. Ties go to the lower column.

    Source: Moreira et al., NV-Retriever, 2024, arXiv 2407.15831, TopK-PercPos.
    """

    def __init__(
        self, *, share: Annotated[float, Field(gt=0, le=1)] = 0.95, count: Count = 10
    ) -> None:
        if not 0 < share <= 1 or count < 1:
            raise ValueError(f"share must lie in (0, 1], count be above 0, not {share}, {count}")
        self.share = share
        self.count = count

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        allowed = eligible(target, excluded) & ~self._above(scores, target)
        columns = top_k(scores.float().masked_fill(~allowed, -torch.inf), self.count)[1]
        return torch.zeros_like(allowed).scatter(1, columns, True) & allowed

    def ambiguous(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Candidates (Q, N) bool above the cap."""
        return eligible(target, excluded) & self._above(scores, target)

    def _above(self, scores: Tensor, target: Tensor) -> Tensor:
        positive = scores.gather(1, target[:, None])
        return scores > positive - (1 - self.share) * positive.abs()


class SoftZone(InBatch):
    """Every candidate, drawn more often the nearer its score lies to a distance below the target.

    The weight is exp(-sharpness (s_candidate - s_target + distance)^2): a soft form of a zone of
    score gaps. In a batch, where nothing is drawn, it is ``in_batch``.

    Args:
        sharpness: How fast the weight falls, in 1 / score^2; 200 is a standard deviation of 0.05.
        distance: Score below the target with the largest weight.

    Source: Zhou et al., SimANS, EMNLP 2022, arXiv 2210.11773, equation 4 (a, b). Our choice: the
    defaults, for cosines.
    """

    def __init__(
        self,
        *,
        sharpness: Annotated[float, Field(ge=0)] = 200.0,
        distance: Annotated[float, Field(ge=-2, le=2)] = 0.05,
    ) -> None:
        if sharpness < 0:
            raise ValueError(f"sharpness must be at least 0, not {sharpness}")
        self.sharpness = sharpness
        self.distance = distance

    def weights(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Weights (Q, N) float64, in (0, 1]; 0 for the target and what is excluded."""
        wide = scores.double()
        offset = wide - wide.gather(1, target[:, None]) + self.distance
        # Far candidates keep the smallest weight above 0: they may be drawn where nothing else is.
        weights = (-self.sharpness * offset.square()).clamp(min=-700).exp()
        return weights * eligible(target, excluded)


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
