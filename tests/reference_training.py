"""Samplers and schedules computed the slow, plain way, one row and one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Number = Callable[[Any], Any]


def quantile(values: Sequence[Any], share: float, number: Number) -> Any:
    """Linearly interpolated at position share * (m - 1) of the ascending values."""
    ordered = sorted(values)
    position = number(share) * number(len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    rest = position - number(below)
    if rest <= 0:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * rest


def target_relative(
    scores: Sequence[Any],
    target: int,
    excluded: Sequence[bool],
    *,
    lower: float,
    upper: float,
    unit: str,
    fallback: int,
    above: str = "dropped",
    number: Number = float,
) -> list[bool]:
    """One row of the sampler's mask; ``number`` is the precision to count in."""
    gaps = [number(scores[target]) - number(score) for score in scores]
    kept = above == "kept"
    eligible = [
        column
        for column in range(len(scores))
        if not excluded[column] and (gaps[column] > 0 or (kept and column != target))
    ]
    columns: list[int] = []
    if eligible:
        low, high = number(-math.inf if kept and lower == 0 else lower), number(upper)
        if unit == "quantile":
            values = [gaps[column] for column in eligible]
            low, high = quantile(values, lower, number), quantile(values, upper, number)
        if unit == "rank":
            values = sorted(gaps[column] for column in eligible)
            high = values[min(int(upper), len(values)) - 1]
            if lower:
                low = values[min(int(lower), len(values)) - 1]
        columns = [column for column in eligible if low <= gaps[column] <= high]
        if not columns:
            distance = {c: low - gaps[c] if gaps[c] < low else gaps[c] - high for c in eligible}
            columns = sorted(eligible, key=lambda column: (distance[column], column))[:fallback]
    return [column in columns for column in range(len(scores))]


def one_cycle_factor(step: int, total: int, share: float, start: float) -> float:
    """Up half a cosine from start to 1 until share * total - 1, then down to start * 1e-4."""
    peak = share * total - 1
    if step <= peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    end = start * 1e-4
    done = (step - peak) / (total - 1 - peak)
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2
