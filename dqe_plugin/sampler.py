"""Target-relative negatives: candidates whose score lies a measured way below the target's.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor

_GROUP = 16  # rows that share a partition
_LARGEST = 3e38  # about the largest float32


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
        return self.pools(scores, target, excluded)[0]

    def fallback_rows(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Rows (Q,) bool whose zone is empty, so that the fallback fills them."""
        return self.pools(scores, target, excluded)[1]

    def pools(self, scores: Tensor, target: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives (Q, N) bool, and rows (Q,) bool whose zone is empty, in one pass."""
        drop, eligible = drops(scores, target, excluded)
        low, high = self._bounds(drop, eligible)
        zone = (drop <= high).logical_and_(eligible)
        if self.lower > 0:
            zone.logical_and_(drop >= low)
        empty = count_true(zone) == 0
        if self.fallback and bool(empty.any()):
            zone[empty] = self._nearest(drop[empty], eligible[empty], low[empty], high[empty])
        return zone, empty

    def _bounds(self, drop: Tensor, eligible: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound (Q, 1) as score differences."""
        if self.unit == "absolute":
            ones = drop.new_ones(drop.shape[0], 1)
            return self.lower * ones, self.upper * ones
        if self.lower == 0:  # nothing eligible lies below
            return drop.new_zeros(drop.shape[0], 1), row_quantile(drop, eligible, self.upper)
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
    return drop, (drop > 0).logical_and_(~excluded)


def count_true(mask: Tensor) -> Tensor:
    """Number (Q,) int64 of True in each row of a mask (Q, N)."""
    words, left = divmod(mask.shape[1], 8)
    if left or not words or mask.device.type != "cpu" or not mask.is_contiguous():
        return mask.sum(dim=1)
    # Eight at a time as bytes of an int64; no byte overflows in 255 additions.
    packed = mask.view(torch.int64)
    whole = words - words % 255
    parts = packed[:, :whole].reshape(len(mask), whole // 255, 255).sum(dim=2)
    sums = torch.cat([parts, packed[:, whole:].sum(dim=1, keepdim=True)], dim=1)
    return sums.view(torch.uint8).sum(dim=1)


def row_quantile(values: Tensor, mask: Tensor, quantile: float) -> Tensor:
    """The quantile (Q, 1) of each row's masked values (Q, N), linearly interpolated; inf if none.

    With m values in ascending order it lies at position quantile * (m - 1).
    """
    count = count_true(mask)[:, None]
    position = quantile * (count - 1).clamp(min=0).to(values.dtype)
    below = position.floor().long()
    first, second = _smallest(_masked_last(values, mask), below)
    share = position - below.to(values.dtype)
    # Where it falls on a value the next one, perhaps inf, does not count.
    mixed = first + torch.where(share > 0, (second - first) * share, torch.zeros_like(first))
    return torch.where(count > 0, mixed, torch.full_like(mixed, torch.inf))


def _masked_last(values: Tensor, mask: Tensor) -> Tensor:
    """The values (Q, N) where the mask is True, elsewhere something that sorts after them."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return torch.where(mask, values, torch.inf)
    # On a CPU arithmetic is twice as fast as a choice: a floor below everything where the mask is
    # True, above everything where it is not.
    floor = (~mask).view(torch.uint8).float().sub_(0.5).mul_(_LARGEST)
    return torch.maximum(values, floor, out=floor)


def _smallest(values: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The values (Q, 1) at ``place`` (Q, 1) of each row in ascending order, and the next ones."""
    if values.device.type != "cpu" or not _has_numpy():
        ordered = values.sort(dim=1).values
        after = (place + 1).clamp(max=values.shape[1] - 1)
        return ordered.gather(1, place), ordered.gather(1, after)
    # A partition is five times cheaper than a sort but finds one place for all its rows: rows of
    # similar places share one, the difference made up by -inf in front.
    low, high = place.aminmax()
    threads = torch.get_num_threads()
    if int(high - low) <= values.shape[1] // 8:
        blocks = zip(values.tensor_split(threads), place.tensor_split(threads), strict=True)
        found = _in_threads([block for block in blocks if len(block[0])], threads)
        return torch.cat([one for one, _ in found]), torch.cat([two for _, two in found])
    order = place.flatten().argsort()
    found = _in_threads(
        [(values[rows], place[rows]) for rows in torch.split(order, _GROUP)], threads
    )
    back = order.argsort()
    return torch.cat([one for one, _ in found])[back], torch.cat([two for _, two in found])[back]


def _in_threads(blocks: list[tuple[Tensor, Tensor]], threads: int) -> list[tuple[Tensor, Tensor]]:
    if threads == 1 or len(blocks) == 1:
        return [_at_one_place(*block) for block in blocks]
    with ThreadPoolExecutor(min(len(blocks), threads)) as pool:
        return list(pool.map(_at_one_place, *zip(*blocks, strict=True)))


def _at_one_place(values: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_smallest``, by one partition of all rows."""
    top = int(place.max())
    more = top - place
    width = int(more.max())
    signs = torch.where(torch.arange(width) < more, -torch.inf, torch.inf).to(values.dtype)
    wide = torch.cat([signs, values], dim=1)
    wide.numpy().partition(top, axis=1)
    found = wide[:, top : top + 1].clone()  # a view would keep the block alive
    after = wide[:, top + 1 :]
    return found, after.amin(dim=1, keepdim=True) if after.shape[1] else found


def _has_numpy() -> bool:
    """Whether torch can hand a tensor to NumPy, which it works without."""
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        return False
    return True
