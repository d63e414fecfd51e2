"""Target-relative negatives: candidates that score within a chosen distance below the target.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

_GROUP = 16  # rows that share a partition
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


class TargetRelative:
    """The mid-zone of score drops from the target: neither ambiguous nor easy candidates.

    With Δ_c = s(q, target) - s(q, c), the zone is lower <= Δ_c <= upper. Candidates just below the
    target (small Δ) may be positives too; candidates far below teach little. The target,
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
            excluded: (Q, N) bool, candidates that may never be negatives. Padding belongs here: a
                score of -inf is as far below as can be, and eligible.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        return self.pools(scores, target, excluded)[0]

    def fallback_rows(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Rows (Q,) bool whose zone is empty, so that the fallback fills them."""
        return self.pools(scores, target, excluded)[1]

    def pools(self, scores: Tensor, target: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives (Q, N) bool, and rows (Q,) bool whose zone is empty, in one pass."""
        low, high = self._bounds(scores, target, excluded)
        drop = drops(scores, target, excluded)
        zone = compared(drop, operator.le, high)
        zone.logical_and_(compared(drop, operator.ge if self.lower > 0 else operator.gt, low))
        zone = compared(zone, operator.gt, excluded)  # in the zone and not excluded
        empty = ~_any_true(zone)
        if self.fallback and bool(empty.any()):
            zone[empty] = self._nearest(drop[empty], excluded[empty], low[empty], high[empty])
        return zone, empty

    def _bounds(self, scores: Tensor, target: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound (Q, 1) as score differences."""
        drop = drops(scores, target, excluded)
        if self.unit == "absolute":
            ones = drop.new_ones(drop.shape[0], 1)
            return self.lower * ones, self.upper * ones
        if self.lower == 0:  # nothing eligible lies below
            high = quantiles(drop, excluded, [self.upper])[0]
            return torch.zeros_like(high)[:, None], high[:, None]
        low, high = quantiles(drop, excluded, [self.lower, self.upper])
        return low[:, None], high[:, None]

    def _nearest(self, drop: Tensor, excluded: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The eligible candidates (q, N) bool nearest to the zone, ``fallback`` per row."""
        eligible = (drop > 0) & ~excluded
        gap = torch.maximum(low - drop, drop - high).masked_fill(~eligible, torch.inf)
        count = min(self.fallback, gap.shape[1])
        edge = gap.topk(count, dim=1, largest=False).values[:, -1:]
        nearer, beside = gap < edge, gap == edge
        room = count - count_true(nearer)[:, None]
        return (nearer | (beside & (beside.cumsum(dim=1) <= room))) & eligible


def drops(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    """Score drops Δ (Q, N) from the target. Half-precision scores are computed in fp32."""
    if scores.dim() != 2 or excluded.shape != scores.shape or target.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores (Q, N), target (Q,), excluded (Q, N); found {tuple(scores.shape)}, "
            f"{tuple(target.shape)}, {tuple(excluded.shape)}"
        )
    wide = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
    return wide.gather(1, target[:, None]) - wide


def quantiles(drop: Tensor, excluded: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles (S, Q) of each row's eligible drops, linearly interpolated; inf where none is.

    Eligible is what is above 0 and not excluded. With m of them in ascending order a quantile lies
    at position share * (m - 1).

    Args:
        drop: (Q, N). Used up: computing drops again costs less than a copy of them.
        excluded: (Q, N) bool.
        shares: (S,) in [0, 1], ascending.
    """
    if _in_numpy(drop):
        drop.numpy()[excluded.numpy()] = -torch.inf
    else:
        drop.masked_fill_(excluded, -torch.inf)
    count = count_true(compared(drop, operator.gt, drop.new_zeros(())))
    wanted = torch.tensor(shares, dtype=drop.dtype, device=drop.device)[:, None]
    position = wanted * (count - 1).clamp(min=0).to(drop.dtype)
    place = position.long()
    first, second = _order_statistics(drop, drop.shape[1] - count, place)
    share = position - place.to(drop.dtype)
    # Where it falls on a value the next one, perhaps inf, does not count.
    mixed = torch.where(share > 0, first + (second - first) * share, first)
    return mixed.masked_fill_(count == 0, torch.inf)


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


def _any_true(mask: Tensor) -> Tensor:
    """Which rows (Q,) of a mask (Q, N) hold a True."""
    if not _in_numpy(mask):
        return mask.any(dim=1)
    return torch.from_numpy(mask.numpy().any(axis=1))


def compared(values: Tensor, relation: Callable[[Any, Any], Any], bound: Tensor) -> Tensor:
    """``relation(values, bound)`` as bool, where there is NumPy by it, four times as fast."""
    if not _in_numpy(values):
        found: Tensor = relation(values, bound)
        return found
    return torch.from_numpy(relation(values.numpy(), bound.numpy()))


def _order_statistics(drop: Tensor, behind: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The values (S, Q) at ascending places among each row's positive ones, and the next ones.

    Args:
        drop: (Q, N).
        behind: (Q,) how many are not positive.
        place: (S, Q).
    """
    if not _in_numpy(drop):
        return _halved(drop, place)
    first, second = _partitioned(drop, (place + behind).clamp(max=drop.shape[1] - 1))
    # A NaN sorts last, so that it is among the values after the last place, and is not positive.
    broken = second[-1].isnan()
    if bool(broken.any()):
        first[:, broken], second[:, broken] = _halved(drop[broken], place[:, broken])
    return first, second


def _halved(drop: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_order_statistics``, by counting: a pass per bit instead of a sort.

    The bits of positive floats, taken for integers, are in the order of the floats.
    """
    bits = drop.contiguous().view(_INTEGERS[drop.dtype])
    found = [_halved_once(bits, rank) for rank in count_true(bits <= 0) + place + 1]
    first, second = (torch.stack(part).view(drop.dtype) for part in zip(*found, strict=True))
    return first, second


def _halved_once(bits: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The positive bits (Q,) of the given ranks (Q,), counted from 1, and the next ones."""
    kind = torch.float32 if bits.dtype == torch.int32 else torch.float64
    inf = torch.full(rank.shape, torch.inf, dtype=kind, device=bits.device).view(bits.dtype)
    less, enough = torch.zeros_like(inf), inf
    for _ in range(8 * bits.element_size() - 1):
        middle = less + ((enough - less) >> 1)
        reached = count_true(bits <= middle[:, None]) >= rank
        less, enough = torch.where(reached, less, middle), torch.where(reached, middle, enough)
    after = torch.where(bits > enough[:, None], bits, inf[:, None]).amin(dim=1)
    last = count_true(bits <= enough[:, None]) == rank
    return enough, torch.where(last, after, enough)


def _partitioned(values: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The values (S, Q) at each row's ascending places in ascending order, and the next ones.

    Moves the values within their rows.
    """
    low, high = place[-1].aminmax()
    rows, threads = torch.arange(len(values)), torch.get_num_threads()
    groups: list[slice | Tensor]
    if int(high - low) <= values.shape[1] // 8:
        step = -(-len(values) // threads)
        groups = [slice(first, first + step) for first in range(0, len(values), step)]
    else:
        rows = place[-1].argsort()
        groups = list(torch.split(rows, _GROUP))

    def parts(group: slice | Tensor) -> Tensor:
        return _at_common_places(values[group], place[:, group])

    if threads == 1 or len(groups) == 1:
        found = [parts(group) for group in groups]
    else:
        with ThreadPoolExecutor(min(len(groups), threads)) as pool:
            found = list(pool.map(parts, groups))
    whole = torch.cat(found, dim=1)[:, rows.argsort()]
    return whole[: len(place)], whole[len(place) :]


def _at_common_places(values: Tensor, place: Tensor) -> Tensor:
    """As ``_partitioned``, (2 S, Q): what lies at the places, then what comes next.

    A partition is five times cheaper than a sort but finds one place for all its rows: the
    difference is made up by -inf in front.
    """
    firsts: list[Tensor] = []
    seconds: list[Tensor] = []
    front: Tensor | int = 0
    for own in reversed(place.unbind()):
        own = own + front
        top = int(own.max())
        more = top - own
        width = int(more.max())
        if width:
            signs = torch.where(torch.arange(width) < more[:, None], -torch.inf, torch.inf)
            values = torch.cat([signs.to(values.dtype), values], dim=1)
        values.numpy().partition(top, axis=1)
        firsts.insert(0, values[:, top].clone())  # the next partition moves it
        beside = seconds[:1]  # the next one where a lower place is the same
        if top + 1 < values.shape[1]:
            beside = [values[:, top + 1 :].amin(dim=1), *beside]
        seconds.insert(0, torch.stack(beside or firsts[:1]).amin(dim=0))
        # A lower place lies left of it.
        values, front = values[:, : top + 1], front + more
    return torch.stack(firsts + seconds)


def _in_numpy(values: Tensor) -> bool:
    """Whether torch can hand the values to NumPy, which it works without."""
    return values.device.type == "cpu" and _has_numpy()


@cache
def _has_numpy() -> bool:
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        return False
    return True
