from __future__ import annotations

import random

import pytest
import torch

from cir_plugins.retrieval.preference import preference


def test_agreement_by_hand() -> None:
    """The example of the docstring: 1 of 2, 2 of 3, one tie."""
    result = preference(
        torch.tensor([3.0, 1.0, 2.0, 0.0]),
        torch.tensor([1.0, 2.0, 0.0, 0.0]),
        torch.tensor([1, 2, 2, 1]),
    )
    assert result.preference_ratio == 0.5
    assert result.agreement == pytest.approx(2 / 3)
    assert (result.first_preferred, result.items) == (0.5, 4)
    assert (result.first_higher, result.ties) == (2, 1)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_that_of_a_slow_reference(seed: int) -> None:
    rng = random.Random(seed)
    items = [(rng.randrange(4), rng.randrange(4), rng.choice((1, 2))) for _ in range(40)]
    first, second, preferred = (torch.tensor(column) for column in zip(*items, strict=True))
    result = preference(first.double(), second.double(), preferred)
    higher = [p for a, b, p in items if a > b]
    unequal = [(1 if a > b else 2) == p for a, b, p in items if a != b]
    assert result.preference_ratio == pytest.approx(higher.count(1) / len(higher))
    assert result.agreement == pytest.approx(sum(unequal) / len(unequal))


def test_without_a_higher_first_set_the_ratio_is_zero() -> None:
    result = preference(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([1]))
    assert (result.preference_ratio, result.agreement, result.ties) == (0, 0, 1)
