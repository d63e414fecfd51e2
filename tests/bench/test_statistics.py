from __future__ import annotations

import random
import statistics as exact

import numpy as np
import pytest

from cir_plugins.bench.statistics import (
    holm,
    mean_and_deviation,
    over_seeds,
    paired_interval,
    per_triplet,
    randomisation_p_value,
)
from cir_plugins.data.split import Query


def test_mean_and_sample_deviation_by_hand() -> None:
    # Mean 4; squared gaps 4 + 0 + 4 over n - 1 = 2 make a variance of 4.
    assert mean_and_deviation([2.0, 4.0, 6.0]) == (4.0, 2.0)
    assert mean_and_deviation([0.25]) == (0.25, None)
    with pytest.raises(ValueError, match="no values"):
        mean_and_deviation([])


def test_over_seeds_averages_each_query() -> None:
    runs = [{"a": np.array([0.0, 1.0]), "b": np.array([1.0])} for _ in range(2)]
    runs[1]["a"] = np.array([1.0, 1.0])
    merged = over_seeds(runs)
    assert merged["a"].tolist() == [0.5, 1.0]
    assert merged["b"].tolist() == [1.0]


def test_other_queries_over_seeds_are_errors() -> None:
    with pytest.raises(ValueError, match="same splits and queries"):
        over_seeds([{"a": np.zeros(2)}, {"a": np.zeros(3)}])
    with pytest.raises(ValueError, match="same splits and queries"):
        over_seeds([{"a": np.zeros(2)}, {"b": np.zeros(2)}])
    with pytest.raises(ValueError, match="same splits and queries"):
        over_seeds([])


def test_a_constant_difference_has_no_width() -> None:
    method = {"a": np.array([0.5, 1.0, 0.25])}
    baseline = {"a": np.array([0.25, 0.75, 0.0])}
    interval = paired_interval(method, baseline, resamples=50)
    assert (interval.difference, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_splits_count_the_same_whatever_their_size() -> None:
    # Split a differs by 1 in all of 4 queries, split b by 0 in one: the mean of the two is 1/2.
    method = {"a": np.ones(4), "b": np.zeros(1)}
    interval = paired_interval(method, {"a": np.zeros(4), "b": np.zeros(1)}, resamples=20)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_two_queries_by_hand() -> None:
    # Differences 0 and 1: a resample of two has mean 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    interval = paired_interval({"a": np.array([0.0, 1.0])}, {"a": np.zeros(2)}, level=0.95)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.0, 1.0)
    inner = paired_interval({"a": np.array([0.0, 1.0])}, {"a": np.zeros(2)}, level=0.4)
    assert (inner.low, inner.high) == (0.5, 0.5)


def plain(gaps: list[list[float]], resamples: int) -> tuple[float, float]:
    """The bootstrap in plain Python."""
    rng = random.Random(1)
    means = sorted(
        exact.fmean(exact.fmean(rng.choices(gap, k=len(gap))) for gap in gaps)
        for _ in range(resamples)
    )
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


@pytest.mark.parametrize("sizes", [[40], [60, 25]])
def test_bounds_agree_with_a_plain_bootstrap(sizes: list[int]) -> None:
    generator = np.random.default_rng(4)
    method = {str(i): generator.random(size) for i, size in enumerate(sizes)}
    baseline = {split: generator.random(len(values)) for split, values in method.items()}
    interval = paired_interval(method, baseline)
    low, high = plain([(method[s] - baseline[s]).tolist() for s in method], 4000)
    assert interval.low == pytest.approx(low, abs=0.008)
    assert interval.high == pytest.approx(high, abs=0.008)
    assert interval.low < interval.difference < interval.high


def test_intervals_depend_on_seed_not_slices() -> None:
    """Of 30,000 queries 133 resamples are drawn at once: the stream must go on where it was cut."""
    rng = np.random.default_rng(2)
    method, baseline = {"a": rng.random(30_000)}, {"a": rng.random(30_000)}
    interval = paired_interval(method, baseline, resamples=150)
    assert interval != paired_interval(method, baseline, resamples=150, seed=1)
    drawn = np.random.default_rng(0).integers(0, 30_000, size=(150, 30_000))
    means = (method["a"] - baseline["a"])[drawn].mean(axis=1)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_two_texts_of_a_triplet_count_as_one() -> None:
    """VAL has a query for each caption; its queries cannot be paired with another's one by one."""
    triplets = [("r1", "t1", ("a", "b")), ("r2", "t2", ("", "c")), ("r1", "t1", ("a", "b"))]
    queries = [
        Query(str(number), reference, captions, "text", target)
        for number, (reference, target, captions) in enumerate(triplets)
    ]
    values = per_triplet(np.array([1.0, 0.25, 0.0]), queries)
    assert values.tolist() == [0.5, 0.25]  # (1 + 0) / 2, then the triplet with one text


def test_queries_without_a_target_have_no_value() -> None:
    """``cir compare`` on a partly blind split ended in a traceback: fewer values than queries."""
    targets = ["t1", None, "t2", None]
    queries = [Query(f"{row}", "r", ("a",), "text", name) for row, name in enumerate(targets)]
    assert per_triplet(np.array([1.0, 0.0]), queries).tolist() == [1.0, 0.0]


def test_signs_of_two_queries_by_hand() -> None:
    # Gaps 1 and 1 have means 1, 0, 0, -1 under the four sign patterns: half are as extreme as 1.
    p = randomisation_p_value({"a": np.ones(2)}, {"a": np.zeros(2)}, draws=20_000)
    assert abs(p - 0.5) < 0.02
    # Gaps 2 and 0: the sign of a gap of 0 changes nothing, and each pattern is as extreme.
    assert randomisation_p_value({"a": np.array([2.0, 0.0])}, {"a": np.zeros(2)}, draws=99) == 1.0
    assert randomisation_p_value({"a": np.ones(3)}, {"a": np.ones(3)}, draws=99) == 1.0


def test_the_observed_signs_count_as_a_draw() -> None:
    """A p-value of 0 claims more than any number of draws can show."""
    p = randomisation_p_value({"a": np.ones(200)}, {"a": np.zeros(200)}, draws=999)
    assert p == 1 / 1000


@pytest.mark.parametrize("sizes", [[40], [9, 30]])
def test_p_values_agree_with_scipy(sizes: list[int]) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    method = {str(i): rng.integers(0, 2, size).astype(float) for i, size in enumerate(sizes)}
    baseline = {name: rng.integers(0, 2, len(values)) * 0.8 for name, values in method.items()}
    gaps = np.concatenate([(method[n] - baseline[n]) / len(method[n]) for n in method])
    expected = scipy_stats.permutation_test(
        (gaps,),
        lambda x, axis: x.sum(axis=axis) / len(sizes),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).pvalue
    assert 0.001 < expected < 0.999
    p = randomisation_p_value(method, baseline, draws=20_000)
    assert abs(p - expected) < 4 * np.sqrt(2 * expected * (1 - expected) / 20_000)


def test_p_values_depend_on_seed_not_slices() -> None:
    """Of 50,000 queries 80 draws are made at once: the stream must go on where it was cut."""
    rng = np.random.default_rng(0)
    gap = rng.normal(0.005, 1, 50_000)
    pair = {"a": gap}, {"a": np.zeros(50_000)}
    p = randomisation_p_value(*pair, draws=150, seed=5)
    bits = np.random.default_rng(5).integers(0, 2, size=(150, 50_000), dtype=np.int8)
    means = ((2 * bits - 1) @ gap) / 50_000
    assert p == ((np.abs(means) >= abs(gap.mean())).sum() + 1) / 151
    assert randomisation_p_value(*pair, draws=150, seed=6) != p


def test_the_level_holds_under_the_null() -> None:
    """Of pairs without a difference at most about one in twenty may come out below 0.05."""
    rng = np.random.default_rng(1)
    below = 0
    for number in range(300):
        values = rng.random((2, 40)) < 0.4
        pair = {"a": values[0].astype(float)}, {"a": values[1].astype(float)}
        below += randomisation_p_value(*pair, draws=400, seed=number) <= 0.05
    # 300 trials at 0.05: 15 expected, standard deviation 3.8.
    assert 3 <= below <= 27


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == [0.04, 0.03, 0.04]
    # 0.03 times 2 and 0.05 times 1: the later one may not be below the earlier one.
    assert holm([0.03, 0.05]) == [0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    first, second = rng.random(60), rng.random(60)
    own = paired_interval({"a": first}, {"a": second}, resamples=20_000)
    theirs = stats.bootstrap(
        (first - second,), np.mean, n_resamples=20_000, method="percentile", random_state=rng
    ).confidence_interval
    # The bounds of 20,000 resamples vary by about a hundredth of the standard error.
    assert own.low == pytest.approx(theirs.low, abs=2e-3)
    assert own.high == pytest.approx(theirs.high, abs=2e-3)


def test_intervals_and_tests_hold_their_level() -> None:
    """A test that rejects too often makes differences out of nothing; 300 nulls in short."""
    from benchmarks.statistics.level import rejections

    shares = rejections(simulations=300, queries=80, draws=400, seed=1)
    # 5 % of 300 is 15, with a standard deviation of 3.8.
    assert all(0.01 <= share <= 0.095 for share in shares.values())
    apart = rejections(simulations=40, queries=80, draws=400, seed=1, difference=0.3)
    assert all(share > 0.9 for share in apart.values())
