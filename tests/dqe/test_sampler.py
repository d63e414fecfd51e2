from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cir_plugins.testing import check_sampler
from dqe_plugin import order_statistics
from dqe_plugin.sampler import TargetRelative, score_gaps
from tests.reference_training import target_relative

BOUNDS = (
    ("absolute", 0.0, 0.25),
    ("absolute", 0.125, 0.5),
    ("absolute", 0.375, 0.375),
    ("absolute", 3.0, 4.0),
    ("quantile", 0.0, 1.0),
    ("quantile", 0.25, 0.5),
    ("quantile", 0.5, 0.5),
    ("quantile", 0.05, 0.5),
    ("quantile", 0.3, 0.9),
    ("rank", 0, 5),
    ("rank", 3, 8),
    ("rank", 7, 7),
    ("rank", 25, 200),
)


def made_up(
    seed: int, *, dtype: torch.dtype = torch.float32, ties: bool = True, rows: int = 30
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, targets and exclusions; with ties the scores are sixteenths."""
    rng = torch.Generator().manual_seed(seed)
    columns = int(torch.randint(1, 40, (1,), generator=rng))
    scores = torch.rand(rows, columns, generator=rng, dtype=torch.float64) * 2 - 1
    if ties:
        scores = (scores * 16).round() / 16
    target = torch.randint(0, columns, (rows,), generator=rng)
    excluded = torch.rand(rows, columns, generator=rng) < 0.3
    excluded[0] = True
    return scores.to(dtype), target, excluded


def plain_answers(
    sampler: TargetRelative, scores: Tensor, target: Tensor, excluded: Tensor, number: Any
) -> list[list[bool]]:
    """What the plain version leaves of each row."""
    return [
        target_relative(
            scores[row].tolist(),
            int(target[row]),
            excluded[row].tolist(),
            lower=sampler.lower,
            upper=sampler.upper,
            unit=sampler.unit,
            fallback=sampler.fallback,
            above=sampler.above,
            number=number,
        )
        for row in range(len(scores))
    ]


@pytest.mark.parametrize(("unit", "lower", "upper"), BOUNDS)
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("above", ["dropped", "kept"])
def test_equals_the_plain_version(
    unit: Any, lower: float, upper: float, ties: bool, above: Any
) -> None:
    """Ties, exclusions, empty mid-zones and rows without candidates are all among the rows."""
    for seed in range(6):
        for dtype, number in (
            (torch.float64, float),
            (torch.float32, np.float32),
            (torch.float16, np.float32),
        ):
            scores, target, excluded = made_up(seed, dtype=dtype, ties=ties)
            for fallback in (0, 1, 3):
                sampler = TargetRelative(
                    lower=lower, upper=upper, unit=unit, fallback=fallback, above=above
                )
                result = sampler(scores, target, excluded).tolist()
                plain = plain_answers(sampler, scores, target, excluded, number)
                for row, (mask, expected) in enumerate(zip(result, plain, strict=True)):
                    assert mask == expected, (seed, dtype, fallback, row)


@pytest.mark.parametrize(("unit", "lower", "upper"), BOUNDS)
def test_targets_excluded_and_higher_scores_never_selected(
    unit: Any, lower: float, upper: float
) -> None:
    for seed in range(20):
        scores, target, excluded = made_up(seed)
        mask = TargetRelative(lower=lower, upper=upper, unit=unit)(scores, target, excluded)
        target_scores = scores.gather(1, target[:, None])
        assert not (mask & excluded).any()
        assert not (mask & (scores >= target_scores)).any()
        assert not mask.gather(1, target[:, None]).any()
        # with a fallback a row is empty only where nothing is eligible
        assert torch.equal(mask.any(dim=1), ((scores < target_scores) & ~excluded).any(dim=1))


@pytest.mark.parametrize(("unit", "lower", "upper"), BOUNDS)
def test_block_equals_those_rows_of_the_whole(unit: Any, lower: float, upper: float) -> None:
    sampler = TargetRelative(lower=lower, upper=upper, unit=unit, fallback=2)
    for seed in range(5):
        scores, target, excluded = made_up(seed)
        whole = sampler(scores, target, excluded)
        for size in (1, 7, 30):
            blocks = [
                sampler(scores[i : i + size], target[i : i + size], excluded[i : i + size])
                for i in range(0, 30, size)
            ]
            assert torch.equal(torch.cat(blocks), whole)


def test_a_bound_between_two_of_the_farthest_takes_both() -> None:
    """Eligible gaps 0.25, 0.5 and six of inf; the quantile lies between two of these."""
    scores = torch.tensor([[0.75, 0.5, 0.25] + [-torch.inf] * 6])
    sampler = TargetRelative(lower=0, upper=0.55, fallback=0)
    mask = sampler(scores, torch.tensor([0]), torch.zeros(1, 9).bool())
    assert mask.tolist() == [[False] + [True] * 8]


def test_what_is_kept_above_the_target_by_hand() -> None:
    """Score gaps -0.25, 0 (the target), 0.25, 0.5, 0.75 and 1; the last one is excluded."""
    scores = torch.tensor([[0.75, 0.5, 0.25, 0.0, -0.25, -0.5]])
    target, excluded = torch.tensor([1]), torch.arange(6)[None] == 5

    def kept(lower: float, upper: float, unit: Any = "quantile") -> tuple[list[bool], list[bool]]:
        sampler = TargetRelative(lower=lower, upper=upper, unit=unit, above="kept")
        mask = sampler(scores, target, excluded)
        return mask[0].tolist(), sampler.ambiguous(scores, target, excluded)[0].tolist()

    # Four are eligible: -0.25, 0.25, 0.5, 0.75 at quantiles 0, 1/3, 2/3 and 1.
    assert kept(0, 0.4) == ([True, False, True, False, False, False], [False] * 6)
    assert kept(0.3, 0.7) == (
        [False, False, True, True, False, False],
        [True, False, False, False, False, False],
    )
    assert kept(2, 3, "rank") == (
        [False, False, True, True, False, False],
        [True, False, False, False, False, False],
    )
    assert kept(0, 1, "rank")[0] == [True, False, False, False, False, False]
    assert kept(0, 0.3, "absolute")[0] == [True, False, True, False, False, False]
    assert kept(0.3, 0.8, "absolute")[0] == [False, False, False, True, True, False]


def test_kept_above_the_target_goes_on_without_numbers_and_candidates() -> None:
    """Infinities have an order, a NaN is no negative, and a row of nothing but the target none."""
    scores = torch.tensor([[0.5, torch.nan, torch.inf, -torch.inf, -torch.inf], [0.5, 0, 0, 0, 0]])
    excluded = torch.tensor([[False] * 5, [False, True, True, True, True]])
    everything = TargetRelative(lower=0, upper=1, above="kept")
    mask = everything(scores, torch.zeros(2).long(), excluded)
    assert mask.tolist() == [[False, False, True, True, True], [False] * 5]


@pytest.mark.parametrize(("unit", "lower", "upper"), BOUNDS)
def test_any_order_of_candidates(unit: Any, lower: float, upper: float) -> None:
    """The mask moves with the columns; only equals at the edge of a fallback go by their order."""
    for seed in range(5):
        for ties, fallback in ((False, 2), (True, 0)):
            sampler = TargetRelative(lower=lower, upper=upper, unit=unit, fallback=fallback)
            scores, target, excluded = made_up(seed, ties=ties)
            order = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed))
            moved = sampler(scores[:, order], order.argsort()[target], excluded[:, order])
            whole = sampler(scores, target, excluded)
            assert torch.equal(moved, whole[:, order])


def test_mid_zone_by_hand() -> None:
    """Target 0.75; score gaps 0, -0.125, 0.125, 0.25, 0.5, 0.75, and the 0.25 again, excluded."""
    scores = torch.tensor([[0.75, 0.875, 0.625, 0.5, 0.25, 0.0, 0.5]])
    target = torch.tensor([0])
    excluded = torch.tensor([[False] * 6 + [True]])
    mask = TargetRelative(lower=0.25, upper=0.5, unit="absolute")(scores, target, excluded)
    assert mask.tolist() == [[False, False, False, True, True, False, False]]
    # four eligible gaps 0.125, 0.25, 0.5, 0.75: positions 0.75 and 1.5 of 3 are 0.21875, 0.375
    mask = TargetRelative(lower=0.25, upper=0.5)(scores, target, excluded)
    assert mask.tolist() == [[False, False, False, True, False, False, False]]


def test_empty_mid_zone_takes_nearest_lower_column_first() -> None:
    scores = torch.tensor(
        [[0.75, 0.5, 0.25, 0.5, 0.25, -1.0]]
    )  # score gaps 0.25, 0.5, 0.25, 0.5, 1.75
    target, excluded = torch.tensor([0]), torch.zeros(1, 6, dtype=torch.bool)

    def columns_of(count: int) -> list[int]:
        sampler = TargetRelative(lower=0.375, upper=0.375, unit="absolute", fallback=count)
        return sampler(scores, target, excluded)[0].nonzero().flatten().tolist()

    # the mid-zone is the point 0.375: columns 1 to 4 are all 0.125 away
    assert columns_of(0) == []
    assert columns_of(1) == [1]
    assert columns_of(3) == [1, 2, 3]
    assert columns_of(9) == [1, 2, 3, 4, 5]


def test_rows_that_fell_back_are_marked() -> None:
    scores = torch.tensor([[0.75, 0.5], [0.75, 0.0]])
    target, excluded = torch.tensor([0, 0]), torch.zeros(2, 2, dtype=torch.bool)
    sampler = TargetRelative(lower=0.5, upper=1.0, unit="absolute")
    mask, fallback = sampler.negatives_and_fallback(scores, target, excluded)
    assert fallback.tolist() == [True, False]
    assert torch.equal(mask, sampler(scores, target, excluded))
    assert sampler(scores, target, excluded).tolist() == [[False, True], [False, True]]


def test_broken_scores_give_no_negatives() -> None:
    scores = torch.tensor([[float("nan"), 0.5, 0.1], [0.5, float("nan"), 0.1]])
    target, excluded = torch.tensor([0, 0]), torch.zeros(2, 3, dtype=torch.bool)
    mask = TargetRelative(lower=0, upper=1)(scores, target, excluded)
    assert mask.tolist() == [[False] * 3, [False, False, True]]
    # a NaN takes no part: of 0.1 to 0.4 below the target the lower half is 0.1, 0.2
    scores = torch.tensor([[0.5, float("nan"), 0.1, 0.4, 0.3, 0.2]])
    mask = TargetRelative(lower=0, upper=0.4)(scores, target[:1], torch.zeros(1, 6).bool())
    assert mask[0].nonzero().flatten().tolist() == [3, 4]


def test_half_precision_is_counted_in_single() -> None:
    scores, target, excluded = made_up(3, dtype=torch.float16)
    gaps = score_gaps(scores, target, excluded)
    assert gaps.dtype == torch.float32
    assert torch.equal(
        TargetRelative()(scores, target, excluded),
        TargetRelative()(scores.float(), target, excluded),
    )


@pytest.fixture(params=["partitions", "counting"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By NumPy, and as on a GPU or without NumPy."""
    if request.param == "counting":
        monkeypatch.setattr(order_statistics, "in_numpy", lambda values: False)
    return str(request.param)


@pytest.mark.parametrize("ties", [True, False])
def test_wide_rows_equal_the_plain_version(way: str, ties: bool) -> None:
    """Rows long enough to be partitioned in earnest, with targets at the top and in the middle."""
    rng = torch.Generator().manual_seed(4)
    scores = torch.randn(24, 700, generator=rng)
    scores = (scores * 16).round() / 16 if ties else scores
    target = scores.argmax(dim=1)
    target[16:] = torch.randint(0, 700, (8,), generator=rng)
    excluded = torch.rand(24, 700, generator=rng) < 0.05
    for lower, upper in ((0.0, 0.3), (0.05, 0.5), (0.5, 0.5), (0.999, 1.0)):
        for rows in (slice(0, 16), slice(0, 24)):  # places alike, and far apart
            inputs = scores[rows], target[rows], excluded[rows]
            sampler = TargetRelative(lower=lower, upper=upper, unit="quantile", fallback=8)
            plain = plain_answers(sampler, *inputs, np.float32)
            for row, (mask, expected) in enumerate(
                zip(sampler(*inputs).tolist(), plain, strict=True)
            ):
                assert mask == expected, (way, lower, upper, row)


def test_several_threads_find_what_one_finds() -> None:
    rng = torch.Generator().manual_seed(5)
    scores = torch.randn(50, 400, generator=rng)
    target = torch.randint(0, 400, (50,), generator=rng)
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    threads = torch.get_num_threads()
    results = []
    for number in (1, 3):
        torch.set_num_threads(number)
        try:
            masks = [
                TargetRelative()(scores[rows], target[rows], excluded[rows])
                for rows in (slice(0, 50), slice(0, 2))
            ]
        finally:
            torch.set_num_threads(threads)
        results.append(torch.cat(masks))
    assert torch.equal(*results)


def test_arguments_are_left_as_they_are() -> None:
    inputs = made_up(1)
    copies = [tensor.clone() for tensor in inputs]
    TargetRelative(unit="absolute", lower=3, upper=4)(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "cosine"}, "unit must be 'absolute', 'quantile' or 'rank', not 'cosine'"),
        ({"unit": "rank"}, "ranks must be whole and upper at least 1, not 0.02 and 0.1"),
        ({"unit": "rank", "lower": 0, "upper": 0}, "upper at least 1, not 0 and 0"),
        ({"unit": "rank", "lower": 1, "upper": 2.5}, "ranks must be whole"),
        ({"unit": "rank", "lower": 1, "upper": float("inf")}, "ranks must be whole"),
        ({"lower": 0.6}, "0 <= lower <= upper, not 0.6 and 0.1"),
        ({"lower": -0.1}, "0 <= lower <= upper, not -0.1 and 0.1"),
        ({"upper": float("nan")}, "0 <= lower <= upper"),
        ({"upper": 1.5}, "upper must be at most 1 for quantiles, not 1.5"),
        ({"fallback": -1}, "fallback must be at least 0, not -1"),
        ({"above": "both"}, "above must be 'dropped' or 'kept', not 'both'"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetRelative(**options)
    assert TargetRelative(unit="absolute", upper=1.5).upper == 1.5


def test_shapes_that_do_not_belong_together_are_errors() -> None:
    scores, target, excluded = made_up(2)
    with pytest.raises(ValueError, match=r"expected scores \(Q, N\), target \(Q,\), excluded"):
        TargetRelative()(scores, target[:-1], excluded)
    with pytest.raises(ValueError, match="expected scores"):
        TargetRelative()(scores, target, excluded[:, :-1])
    with pytest.raises(ValueError, match="excluded must be a mask of bool"):
        TargetRelative()(scores, target, excluded.float())


@pytest.mark.parametrize(
    ("unit", "lower", "upper"), [("absolute", 0.05, 0.5), ("quantile", 0.05, 0.5), ("rank", 3, 20)]
)
@pytest.mark.parametrize("above", ["dropped", "kept"])
def test_keeps_the_contract_of_samplers(unit: Any, lower: float, upper: float, above: Any) -> None:
    check_sampler(TargetRelative(unit=unit, lower=lower, upper=upper, above=above))
