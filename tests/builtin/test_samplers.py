from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.samplers import (
    AfterTarget,
    Hardest,
    InBatch,
    PercentOfPositive,
    Random,
    SemiHard,
    SoftZone,
    eligible,
)
from cir_plugins.testing import check_sampler

SAMPLERS = [
    *(InBatch(), Random(), Hardest(), Hardest(count=3), SemiHard(), SemiHard(margin=0.5)),
    *(AfterTarget(), AfterTarget(count=2, skip=1), PercentOfPositive(), SoftZone()),
]


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Two rows of five; targets 1 and 0; column 4 of the first row is excluded."""
    scores = torch.tensor([[0.5, 0.75, 0.75, 0.625, 0.875], [0.25, 0.5, 0.0, 0.125, 0.125]])
    excluded = torch.zeros(2, 5, dtype=torch.bool)
    excluded[0, 4] = True
    return scores, torch.tensor([1, 0]), excluded


def columns(mask: Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in mask]


def test_in_batch_takes_all_that_may_be_taken() -> None:
    assert columns(InBatch()(*example())) == [[0, 2, 3], [1, 2, 3, 4]]
    assert columns(Random()(*example())) == [[0, 2, 3], [1, 2, 3, 4]]
    assert columns(eligible(*example()[1:])) == [[0, 2, 3], [1, 2, 3, 4]]


def test_hardest_breaks_ties_by_column() -> None:
    """The highest scores, and the lower column among equal ones."""
    assert columns(Hardest()(*example())) == [[2], [1]]
    assert columns(Hardest(count=2)(*example())) == [[2, 3], [1, 3]]
    assert columns(Hardest(count=9)(*example())) == [[0, 2, 3], [1, 2, 3, 4]]


@pytest.mark.parametrize("count", [1, 4, 30])
@pytest.mark.parametrize("levels", [1, 5, 10_000])
def test_hardest_is_what_a_full_sort_gives(count: int, levels: int) -> None:
    rng = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels + 1, (40, 30), generator=rng) / 7
    target = torch.randint(0, 30, (40,), generator=rng)
    excluded = torch.rand(40, 30, generator=rng) < 0.5
    mask = Hardest(count=count)(scores, target, excluded)
    for row in range(40):
        allowed = [c for c in range(30) if c != target[row] and not excluded[row, c]]
        hardest = sorted(allowed, key=lambda column: (-float(scores[row, column]), column))
        assert columns(mask)[row] == sorted(hardest[:count])


def test_after_target_takes_a_fixed_number_below_it() -> None:
    """In order below the target: 3, 0 of the first row, where 2 ties with it; 0, 3, 4, 2."""
    scores, target, excluded = example()
    target[1] = 1
    assert columns(AfterTarget(count=1)(scores, target, excluded)) == [[3], [0]]
    assert columns(AfterTarget(count=2)(scores, target, excluded)) == [[0, 3], [0, 3]]
    sampler = AfterTarget(count=1, skip=1)
    assert columns(sampler(scores, target, excluded)) == [[0], [3]]
    assert columns(sampler.ambiguous(scores, target, excluded)) == [[2, 3], [0]]


def test_percent_of_positive_caps_the_scores() -> None:
    """Caps 0.6 and 0.2; of a target of -0.5 it is -0.6."""
    scores, target, excluded = example()
    sampler = PercentOfPositive(share=0.8, count=1)
    assert columns(sampler(scores, target, excluded)) == [[0], [3]]
    assert columns(sampler.ambiguous(scores, target, excluded)) == [[2, 3], [1]]
    assert columns(PercentOfPositive(share=0.8, count=9)(scores, target, excluded))[1] == [2, 3, 4]
    below = torch.tensor([[-0.5, -0.55, -0.65]])
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert columns(sampler(below, torch.tensor([0]), nothing)) == [[2]]


def test_soft_zone_weighs_by_the_distance() -> None:
    """exp(-16 (gap - 0.125)^2): 0.25 has exp(-0.25), 0 has exp(-0.25), 0.125 has 1."""
    sampler = SoftZone(sharpness=16.0, distance=0.125)
    weights = sampler.weights(*example())[0].tolist()
    near = 2.718281828459045**-0.25
    assert weights == pytest.approx([near, 0.0, near, 1.0, 0.0])
    # Far candidates may be drawn where there is nothing else.
    assert bool((SoftZone(sharpness=1e9).weights(*example())[0][[0, 2, 3]] > 0).all())
    assert columns(sampler(*example())) == [[0, 2, 3], [1, 2, 3, 4]]


def test_semi_hard_is_within_the_margin() -> None:
    """Candidates below the target by less than the margin."""
    # score gaps 0.25, -, 0, 0.125, excluded and -, -0.25, 0.25, 0.125, 0.125
    assert columns(SemiHard(margin=0.25)(*example())) == [[3], [3, 4]]
    assert columns(SemiHard(margin=0.3)(*example())) == [[0, 3], [2, 3, 4]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_without_candidates_stay_empty(sampler: Any) -> None:
    scores, target, excluded = example()
    excluded[0] = True
    assert columns(sampler(scores, target, excluded))[0] == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_contract(sampler: Any) -> None:
    check_sampler(sampler)


def test_options_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        Hardest(count=0)
    with pytest.raises(ValueError, match="margin must be above 0, not 0"):
        SemiHard(margin=0)
