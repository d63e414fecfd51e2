"""Quantiles and ranks of score gaps, by partition or counting, not sorting. Imports torch alone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from cir_plugins import count_true

Unit = Literal["quantile", "rank"]

_GROUP = 16  # rows that share a partition
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


def bounds_below(gaps: Tensor, excluded: Tensor, places: Sequence[float], unit: Unit) -> Tensor:
    """Gaps (S, Q) at some places of each row's eligible gaps; inf where none is eligible.

    Eligible is what is above 0 and not excluded. With m of them in ascending order a quantile lies
    at position quantile * (m - 1), between two values linearly interpolated, and rank r is the r-th
    value, or the last one where there are fewer.

    Args:
        gaps: (Q, N). Used up: computing gaps again costs less than a copy of them.
        excluded: (Q, N) bool.
        places: (S,) ascending quantiles in [0, 1], or ranks from 1.
        unit: What the places are.
    """
    if in_numpy(gaps):
        gaps.numpy()[excluded.numpy()] = -torch.inf
    else:
        gaps.masked_fill_(excluded, -torch.inf)
    count = count_true(compare(gaps, operator.gt, gaps.new_zeros(())))
    position = _positions(places, unit, (count - 1).clamp(min=0).to(gaps.dtype))
    rank = position.long()
    first, second = _order_statistics(gaps, gaps.shape[1] - count, rank)
    return _interpolated(first, second, position - rank).masked_fill_(count == 0, torch.inf)


def bounds_of_all(gaps: Tensor, excluded: Tensor, places: Sequence[float], unit: Unit) -> Tensor:
    """Gaps (S, Q) as ``bounds_below`` gives them, of all that are not excluded; by a sort.

    A NaN counts as excluded.
    """
    absent = excluded | gaps.isnan()
    ascending = gaps.masked_fill(absent, torch.inf).sort(dim=1).values
    last = (gaps.shape[1] - count_true(absent) - 1).clamp(min=0)
    position = _positions(places, unit, last.to(gaps.dtype))
    rank = position.long()
    first = ascending.gather(1, rank.T).T
    second = ascending.gather(1, torch.minimum(rank + 1, last).T).T
    return _interpolated(first, second, position - rank)


def _interpolated(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Values (S, Q) between ``first`` and ``second``, which is as large or larger.

    Where the weight is 0 the second one, perhaps inf, does not count. Two inf are one inf: their
    difference is no number.
    """
    between = (weight > 0) & (second > first)
    return torch.where(between, first + (second - first) * weight, first)


def _positions(places: Sequence[float], unit: Unit, last: Tensor) -> Tensor:
    """Positions (S, Q), counted from 0, of places among values whose last position is (Q,)."""
    wanted = torch.tensor(places, dtype=last.dtype, device=last.device)[:, None]
    return wanted * last if unit == "quantile" else torch.minimum(wanted - 1, last)


def _order_statistics(gaps: Tensor, behind: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The values (S, Q) at ascending ranks among each row's positive ones, and the next ones.

    Args:
        gaps: (Q, N).
        behind: (Q,) how many are not positive.
        rank: (S, Q), counted from 0.
    """
    if not in_numpy(gaps):
        return _halved(gaps, rank)
    first, second = _partitioned(gaps, (rank + behind).clamp(max=gaps.shape[1] - 1))
    # A NaN sorts last, so that it is among the values after the last rank, and is not positive.
    has_nan = second[-1].isnan()
    if bool(has_nan.any()):
        first[:, has_nan], second[:, has_nan] = _halved(gaps[has_nan], rank[:, has_nan])
    return first, second


def _halved(gaps: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_order_statistics``, by counting: a pass per bit instead of a sort.

    The bits of positive floats, taken for integers, are in the order of the floats.
    """
    bits = gaps.contiguous().view(_INTEGERS[gaps.dtype])
    pairs = [_halved_once(bits, number) for number in count_true(bits <= 0) + rank + 1]
    first, second = (torch.stack(side).view(gaps.dtype) for side in zip(*pairs, strict=True))
    return first, second


def _halved_once(bits: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The positive bits (Q,) at ranks (Q,) counted from 1, and the next ones."""
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


def _partitioned(values: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The values (S, Q) at each row's ascending ranks, counted from 0, and the next ones.

    Moves the values within their rows.
    """
    low, high = rank[-1].aminmax()
    rows, threads = torch.arange(len(values)), torch.get_num_threads()
    groups: list[slice | Tensor]
    if int(high - low) <= values.shape[1] // 8:
        step = -(-len(values) // threads)
        groups = [slice(first, first + step) for first in range(0, len(values), step)]
    else:
        rows = rank[-1].argsort()
        groups = list(torch.split(rows, _GROUP))

    def statistics(group: slice | Tensor) -> Tensor:
        return _at_common_ranks(values[group], rank[:, group])

    if threads == 1 or len(groups) == 1:
        blocks = [statistics(group) for group in groups]
    else:
        with ThreadPoolExecutor(min(len(groups), threads)) as pool:
            blocks = list(pool.map(statistics, groups))
    whole = torch.cat(blocks, dim=1)[:, rows.argsort()]
    return whole[: len(rank)], whole[len(rank) :]


def _at_common_ranks(values: Tensor, rank: Tensor) -> Tensor:
    """As ``_partitioned``, (2 S, Q): what lies at the ranks, then what comes next.

    A partition is five times cheaper than a sort but finds one rank for all its rows: the
    difference is made up by -inf in front.
    """
    firsts: list[Tensor] = []
    seconds: list[Tensor] = []
    front: Tensor | int = 0
    for lower in reversed(rank.unbind()):
        column = lower + front
        top = int(column.max())
        more = top - column
        width = int(more.max())
        if width:
            signs = torch.where(torch.arange(width) < more[:, None], -torch.inf, torch.inf)
            values = torch.cat([signs.to(values.dtype), values], dim=1)
        values.numpy().partition(top, axis=1)
        firsts.insert(0, values[:, top].clone())  # the next partition moves it
        beside = seconds[:1]  # the next one where a lower rank is the same
        if top + 1 < values.shape[1]:
            beside = [values[:, top + 1 :].amin(dim=1), *beside]
        seconds.insert(0, torch.stack(beside or firsts[:1]).amin(dim=0))
        # A lower rank lies left of it.
        values, front = values[:, : top + 1], front + more
    return torch.stack(firsts + seconds)


def compare(values: Tensor, relation: Callable[[Any, Any], Any], bound: Tensor) -> Tensor:
    """Mask ``relation(values, bound)``, such as ``operator.gt``; on a CPU by NumPy, for speed."""
    if in_numpy(values):
        return torch.from_numpy(relation(values.numpy(), bound.numpy()))
    mask: Tensor = relation(values, bound)
    return mask


def in_numpy(values: Tensor) -> bool:
    """Whether values are NumPy's to work on: four times as fast as torch on a CPU."""
    return values.device.type == "cpu" and _has_numpy()


@cache
def _has_numpy() -> bool:
    """Whether torch can hand values to NumPy, which it works without."""
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        return False
    return True
