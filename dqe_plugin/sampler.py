"""Target-relative negatives: candidates that score within a chosen distance below the target.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

import operator
from typing import Literal

import torch
from torch import Tensor

from cir_plugins import count_true
from dqe_plugin.order_statistics import bounds_below, bounds_of_all, compare


class TargetRelative:
    """The mid-zone of score gaps to the target: neither ambiguous nor easy candidates.

    With Δ_c = s(q, target) - s(q, c), the mid-zone is lower <= Δ_c <= upper. Candidates just below
    the target (small Δ) may be positives too; candidates far below teach little. The target,
    anything excluded, and anything that scores at or above the target are never in it. Where it is
    empty, the eligible candidates nearest to it take its place.

    Stateless and without randomness; rows are independent, so a block of rows gives those rows of
    the whole. Ties at the edge of the fallback go to the lower column.

    Args:
        lower: Lower bound of the mid-zone; 0 for none.
        upper: Upper bound, at least ``lower``; same unit.
        unit: ``absolute``: bounds are differences of scores, of at least 0. ``quantile``: they are
            quantiles, in [0, 1], of the row's own Δ over its eligible candidates. ``rank``: they
            are whole numbers, 1 the first eligible candidate below the target; where there are
            fewer, the last one takes the place of a bound.
        fallback: How many of the nearest eligible candidates stand in for an empty mid-zone; 0
            leaves the row without negatives.
        above: ``dropped``: what scores at or above the target is never a negative. ``kept``: it is
            eligible like the rest, quantiles are of all that is not excluded, and a lower bound of
            0 is none.

    Raises:
        ValueError: If an option is out of range.

    Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037 (Δ-scores, mid-zone, bounds set by hand).
    Chosen: quantiles as a unit, the fallback, and the default bounds.
    """

    def __init__(
        self,
        *,
        lower: float = 0.02,
        upper: float = 0.1,
        unit: Literal["absolute", "quantile", "rank"] = "quantile",
        fallback: int = 8,
        above: Literal["dropped", "kept"] = "dropped",
    ) -> None:
        if unit not in ("absolute", "quantile", "rank"):
            raise ValueError(f"unit must be 'absolute', 'quantile' or 'rank', not {unit!r}")
        if not 0 <= lower <= upper:
            raise ValueError(f"bounds must satisfy 0 <= lower <= upper, not {lower} and {upper}")
        if unit == "quantile" and upper > 1:
            raise ValueError(f"upper must be at most 1 for quantiles, not {upper}")
        if unit == "rank" and not (upper >= 1 and all(b % 1 == 0 for b in (lower, upper))):
            raise ValueError(
                f"ranks must be whole and upper at least 1, not {lower} and {upper}; lower=25 and "
                "upper=200 are ranks"
            )
        if fallback < 0:
            raise ValueError(f"fallback must be at least 0, not {fallback}")
        if above not in ("dropped", "kept"):
            raise ValueError(f"above must be 'dropped' or 'kept', not {above!r}")
        self.lower = lower
        self.upper = upper
        self.unit = unit
        self.fallback = fallback
        self.above = above

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool.

        Args:
            scores: (Q, N) float, higher is closer; cosines where the unit is ``absolute``.
            target: (Q,) int64 column of the target.
            excluded: (Q, N) bool, candidates that may never be negatives. Padding belongs here: a
                score of -inf is as far below as can be, and eligible.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        return self.negatives_and_fallback(scores, target, excluded)[0]

    def negatives_and_fallback(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negatives (Q, N) bool, and queries (Q,) bool whose mid-zone is empty."""
        low, high = self._bounds(scores, target, excluded)
        gaps = score_gaps(scores, target, excluded)
        mid_zone = compare(gaps, operator.le, high)
        above_lower = operator.gt if self._ends_at_target else operator.ge
        mid_zone.logical_and_(compare(gaps, above_lower, low))
        if self.above == "kept":
            excluded = excluded.scatter(1, target[:, None], True)
        mid_zone = compare(mid_zone, operator.gt, excluded)  # in it and not excluded
        empty = count_true(mid_zone) == 0
        if self.fallback and bool(empty.any()):
            mid_zone[empty] = self._nearest(gaps[empty], excluded[empty], low[empty], high[empty])
        return mid_zone, empty

    def ambiguous(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Candidates (Q, N) bool above the mid-zone: at or above the target, or too close below it.

        Arguments as for a call. What is excluded is not among them, nor is the target.
        """
        gaps = score_gaps(scores, target, excluded)
        low = self._bounds(scores, target, excluded)[0]
        above = gaps <= 0 if self._ends_at_target else gaps < low
        return (above & ~excluded).scatter(1, target[:, None], False)

    @property
    def _ends_at_target(self) -> bool:
        """Whether the mid-zone is all that lies below the target, down to the upper bound."""
        return self.above == "dropped" and self.lower == 0

    def _bounds(self, scores: Tensor, target: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound (Q, 1) as score gaps."""
        gaps = score_gaps(scores, target, excluded)
        kept = self.above == "kept"
        ones = gaps.new_ones(len(gaps), 1)
        none = (-torch.inf if kept else 0.0) * ones  # without a lower bound
        if self.unit == "absolute":
            return none if self.lower == 0 else self.lower * ones, self.upper * ones
        if kept:
            excluded = excluded.scatter(1, target[:, None], True)
        places = [self.upper] if self.lower == 0 else [self.lower, self.upper]
        find = bounds_of_all if kept else bounds_below
        *low, high = find(gaps, excluded, places, self.unit)
        return low[0][:, None] if low else none, high[:, None]

    def _nearest(self, gaps: Tensor, excluded: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The eligible candidates (q, N) bool nearest to the mid-zone, ``fallback`` per row."""
        eligible = ~excluded if self.above == "kept" else (gaps > 0) & ~excluded
        distance = torch.maximum(low - gaps, gaps - high).masked_fill(~eligible, torch.inf)
        count = min(self.fallback, distance.shape[1])
        edge = distance.topk(count, dim=1, largest=False).values[:, -1:]
        nearer, beside = distance < edge, distance == edge
        room = count - count_true(nearer)[:, None]
        return (nearer | (beside & (beside.cumsum(dim=1) <= room))) & eligible


def score_gaps(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    """Score gaps Δ (Q, N) from the target. Half-precision scores are computed in fp32."""
    if scores.dim() != 2 or excluded.shape != scores.shape or target.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores (Q, N), target (Q,), excluded (Q, N); found {tuple(scores.shape)}, "
            f"{tuple(target.shape)}, {tuple(excluded.shape)}"
        )
    if excluded.dtype != torch.bool:
        raise ValueError(f"excluded must be a mask of bool, not {excluded.dtype}")
    wide = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
    return wide.gather(1, target[:, None]) - wide
