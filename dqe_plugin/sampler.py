"""Target-relative negatives: candidates whose score lies a measured way below the target's.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


class TargetRelative:
    """The mid-zone of score drops from the target: neither ambiguous nor easy candidates.

    With Δ_c = s(q, target) - s(q, c), the zone is lower <= Δ_c <= upper. Candidates just below the
    target (small Δ) may be right answers too; candidates far below teach little. The target,
    anything excluded, and anything that scores at or above the target are never in the zone. Where
    the zone is empty, the eligible candidates nearest to it take its place.

    Stateless and without randomness; rows are independent, so a block of rows gives those rows of
    the whole. Ties at the edge of the fallback go to the lower column.

    Args:
        lower: Lower bound of the zone: a cosine difference of at least 0 for ``absolute``, a
            quantile in [0, 1] for ``quantile``.
        upper: Upper bound, at least ``lower``; same unit.
        unit: ``absolute``: bounds are differences of scores. ``quantile``: bounds are quantiles of
            the row's own Δ over its eligible candidates.
        fallback: How many of the nearest eligible candidates stand in for an empty zone; 0 leaves
            the row without negatives.

    Raises:
        ValueError: If a bound or the unit is out of range.

    Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037 (Δ-scores, mid-zone, bounds set by hand).
    Chosen: quantiles as a unit, the fallback, and the default bounds.
    """

    def __init__(
        self,
        *,
        lower: float = 0.05,
        upper: float = 0.5,
        unit: Literal["absolute", "quantile"] = "quantile",
        fallback: int = 8,
    ) -> None:
        if unit not in ("absolute", "quantile"):
            raise ValueError(f"unit must be 'absolute' or 'quantile', not {unit!r}")
        if not 0 <= lower <= upper:
            raise ValueError(f"bounds must satisfy 0 <= lower <= upper, not {lower} and {upper}")
        if unit == "quantile" and upper > 1:
            raise ValueError(f"upper must be at most 1 for quantiles, not {upper}")
        if fallback < 0:
            raise ValueError(f"fallback must be at least 0, not {fallback}")
        self.lower = lower
        self.upper = upper
        self.unit = unit
        self.fallback = fallback

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool.

        Args:
            scores: (Q, N) float, higher is closer; cosines where the unit is ``absolute``.
            target: (Q,) int64 column of the target.
            excluded: (Q, N) bool, candidates that may never be negatives.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        drop, eligible = drops(scores, target, excluded)
        low, high = self._bounds(drop, eligible)
        zone = eligible & (drop >= low) & (drop <= high)
        if self.fallback == 0:
            return zone
        empty = ~zone.any(dim=1)
        if not bool(empty.any()):
            return zone
        zone[empty] = self._nearest(drop[empty], eligible[empty], low[empty], high[empty])
        return zone

    def fallback_rows(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Rows (Q,) bool whose zone is empty, so that the fallback fills them."""
        drop, eligible = drops(scores, target, excluded)
        low, high = self._bounds(drop, eligible)
        return ~(eligible & (drop >= low) & (drop <= high)).any(dim=1)

    def _bounds(self, drop: Tensor, eligible: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound (Q, 1) as score differences."""
        if self.unit == "absolute":
            ones = drop.new_ones(drop.shape[0], 1)
            return self.lower * ones, self.upper * ones
        return row_quantile(drop, eligible, self.lower), row_quantile(drop, eligible, self.upper)

    def _nearest(self, drop: Tensor, eligible: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The eligible candidates (q, N) bool nearest to the zone, ``fallback`` per row."""
        gap = torch.maximum(low - drop, drop - high).masked_fill(~eligible, torch.inf)
        order = gap.sort(dim=1, stable=True).indices[:, : self.fallback]
        return torch.zeros_like(eligible).scatter(1, order, True) & eligible


def drops(scores: Tensor, target: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
    """Score drops Δ (Q, N) from the target, and which candidates (Q, N) bool are eligible.

    Eligible is what scores below the target and is not excluded. Half-precision scores are
    computed in fp32.
    """
    if scores.dim() != 2 or excluded.shape != scores.shape or target.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores (Q, N), target (Q,), excluded (Q, N); found {tuple(scores.shape)}, "
            f"{tuple(target.shape)}, {tuple(excluded.shape)}"
        )
    wide = scores if scores.dtype == torch.float64 else scores.float()
    drop = wide.gather(1, target[:, None]) - wide
    return drop, (drop > 0) & ~excluded


def row_quantile(values: Tensor, mask: Tensor, quantile: float) -> Tensor:
    """The quantile (Q, 1) of each row's masked values (Q, N), linearly interpolated; inf if none.

    With m values in ascending order it lies at position quantile * (m - 1).
    """
    ordered = values.masked_fill(~mask, torch.inf).sort(dim=1).values
    count = mask.sum(dim=1, keepdim=True)
    position = quantile * (count - 1).clamp(min=0).to(values.dtype)
    below = position.floor().long()
    above = torch.minimum(below + 1, (count - 1).clamp(min=0))
    first, second = ordered.gather(1, below), ordered.gather(1, above)
    share = position - below.to(values.dtype)
    mixed = first + torch.where(share > 0, (second - first) * share, torch.zeros_like(first))
    return torch.where(count > 0, mixed, torch.full_like(mixed, torch.inf))
