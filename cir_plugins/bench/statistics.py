"""Means over seeds; bootstrap intervals and randomisation tests of paired differences."""

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
DRAWS = 10_000  # of a randomisation test
LEVEL = 0.95
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A difference and the bounds between which resampling finds it.

    Attributes:
        difference: Method minus baseline, as a fraction.
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
    """Per-query values (Q,) of each split, averaged over runs with different seeds.

    Raises:
        ValueError: If the runs have other splits or other numbers of queries.
    """
    shapes = [{split: values.shape for split, values in run.items()} for run in runs]
    if not runs or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"runs must have the same splits and queries, got {shapes}")
    return {split: np.mean([run[split] for run in runs], axis=0) for split in runs[0]}


def paired_interval(
    method: Mapping[str, Values],
    baseline: Mapping[str, Values],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Difference of two methods with its percentile bootstrap interval.

    Queries are drawn with replacement within each split, the same for both; a difference is
    the mean of the splits' means, as reports average. What the choice of seed changes is not in
    the interval: the standard deviation over seeds shows it.

    Args:
        method: Split -> per-query values (Q,).
        baseline: The same of the method to compare with.
        resamples: Number of resamples.
        level: Share of the resamples between the bounds, in (0, 1).
        seed: Seed of the drawing.

    Raises:
        ValueError: If the two have other splits or other numbers of queries.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    gaps = paired_gaps(method, baseline)
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    difference = 0.0
    for gap in gaps.values():
        difference += float(gap.mean()) / len(gaps)
        means += _resampled(gap, resamples, generator) / len(gaps)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(difference, float(low), float(high))


def paired_gaps(method: Mapping[str, Values], baseline: Mapping[str, Values]) -> dict[str, Values]:
    """Score gaps (Q,) of each split: method minus baseline, query by query.

    Raises:
        ValueError: If the two have other splits or other numbers of queries.
    """
    over_seeds([method, baseline])
    return {
        split: np.asarray(values, dtype=np.float64) - baseline[split]
        for split, values in method.items()
    }


def randomisation_p_value(
    method: Mapping[str, Values],
    baseline: Mapping[str, Values],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the paired randomisation test, in (0, 1].

    Under the null hypothesis the two methods are exchangeable for each query: the signs of the gaps
    are flipped at random, and the mean of the splits' means is compared with the observed one. The
    observed assignment counts as one draw, so that the value is never 0.

    Args:
        method: Split -> per-query values (Q,), averaged over seeds where there are several.
        baseline: The same of the method to compare with.
        draws: Number of random assignments of signs.
        seed: Seed of the drawing.

    Raises:
        ValueError: If the two have other splits or other numbers of queries.

    Source: Smucker, Allan and Carterette, A comparison of statistical significance tests for
    information retrieval evaluation, CIKM 2007.
    """
    gaps = paired_gaps(method, baseline)
    generator = np.random.default_rng(seed)
    observed = 0.0
    means = np.zeros(draws)
    for gap in gaps.values():
        observed += float(gap.mean()) / len(gaps)
        means += _flipped(gap, draws, generator) / len(gaps)
    # Sums of the same gaps in another order differ in their last bits: they count as equal.
    extreme = np.abs(means) >= abs(observed) * (1 - 1e-9) - 1e-15
    return (int(extreme.sum()) + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values (M,) corrected for M comparisons, in their order.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def triplets_of(queries: Sequence[Query]) -> list[tuple[object, ...]]:
    """What makes each query's triplet (Q): reference, target and captions."""
    return [(query.reference, query.target, query.captions) for query in queries]


def per_triplet(values: Values, queries: Sequence[Query]) -> Values:
    """Mean value of each triplet (T,), in order of first appearance.

    Protocols with two texts of a triplet (both orders, each caption alone) have more queries than
    others; per triplet they can be paired with them.

    Args:
        values: (Q,) value of each query that has a target.
        queries: The queries in order, those without a target among them.
    """
    number: dict[tuple[object, ...], int] = {}
    labelled = [query for query in queries if query.target is not None]
    index = np.array([number.setdefault(key, len(number)) for key in triplets_of(labelled)])
    sums = np.bincount(index, weights=values, minlength=len(number))
    means: Values = sums / np.bincount(index, minlength=len(number))
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


def _flipped(gap: Values, draws: int, generator: np.random.Generator) -> Values:
    """Means (draws,) of the gaps (Q,) with random signs."""
    differing = gap[gap != 0]  # a gap of 0 is the same with either sign
    means = np.zeros(draws)
    if not len(differing):
        return means
    size = max(1, _DRAWN_AT_ONCE // len(differing))
    for first in range(0, draws, size):
        count = min(size, draws - first)
        bits = generator.integers(0, 2, size=(count, len(differing)), dtype=np.int8)
        # The sum with signs is the sum of the unflipped minus that of the flipped.
        means[first : first + count] = 2 * (bits @ differing) - differing.sum()
    means /= len(gap)
    return means
