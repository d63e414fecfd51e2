"""Means over seeds, and paired bootstrap intervals of differences over queries."""

from __future__ import annotations

import statistics as exact
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cir_plugins.data.split import Query

Values: TypeAlias = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.95
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A difference and the bounds between which resampling finds it.

    Attributes:
        difference: Row minus reference, as a fraction.
        low: Lower bound.
        high: Upper bound.
    """

    difference: float
    low: float
    high: float


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1) over seeds; None for the latter of one value.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("no values to average")
    return exact.fmean(values), exact.stdev(values) if len(values) > 1 else None


def over_seeds(runs: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Per-query values (Q,) of each split, averaged over the runs of a row.

    Raises:
        ValueError: If the runs have other splits or other numbers of queries.
    """
    shapes = [{split: values.shape for split, values in run.items()} for run in runs]
    if not runs or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"runs must have the same splits and queries, got {shapes}")
    return {split: np.mean([run[split] for run in runs], axis=0) for split in runs[0]}


def paired_interval(
    row: Mapping[str, Values],
    reference: Mapping[str, Values],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Difference of two rows with its percentile bootstrap interval.

    Queries are drawn with replacement within each split, the same for both rows; a difference is
    the mean of the splits' means, as reports average. What the choice of seed changes is not in
    the interval: the standard deviation over seeds shows it.

    Args:
        row: Split -> per-query values (Q,).
        reference: The same of the row to compare with.
        resamples: Number of resamples.
        level: Share of the resamples between the bounds, in (0, 1).
        seed: Seed of the drawing.

    Raises:
        ValueError: If the two rows have other splits or other numbers of queries.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    over_seeds([row, reference])
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    difference = 0.0
    for split in row:
        gap = np.asarray(row[split], dtype=np.float64) - reference[split]
        difference += float(gap.mean()) / len(row)
        means += _resampled(gap, resamples, generator) / len(row)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(difference, float(low), float(high))


def per_triplet(values: Values, queries: Sequence[Query]) -> Values:
    """Mean value of each triplet (T,), in order of first appearance.

    Protocols that ask two texts of a triplet (both orders, each caption alone) have more queries
    than others; per triplet they can be paired with them.

    Args:
        values: (Q,) value of each query.
        queries: The Q queries.
    """
    places: dict[tuple[object, ...], int] = {}
    index = np.array(
        [
            places.setdefault((query.reference, query.target, query.captions), len(places))
            for query in queries
        ]
    )
    sums = np.bincount(index, weights=values, minlength=len(places))
    means: Values = sums / np.bincount(index, minlength=len(places))
    return means


def _resampled(gap: Values, resamples: int, generator: np.random.Generator) -> Values:
    """Means (resamples,) of the differences (Q,), drawn with replacement."""
    size = max(1, _DRAWN_AT_ONCE // len(gap))
    means = np.empty(resamples)
    for first in range(0, resamples, size):
        count = min(size, resamples - first)
        drawn = generator.integers(0, len(gap), size=(count, len(gap)))
        means[first : first + count] = gap[drawn].mean(axis=1)
    return means
