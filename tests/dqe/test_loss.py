from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import Pairwise
from dqe_plugin.loss import margin_ranking, preference_divergence, spoken_mean


def test_divergence_is_that_of_the_one_hot_preference() -> None:
    """One code path, checked against torch's KL divergence of the two distributions."""
    chance = torch.Generator().manual_seed(0)
    pairs = torch.randn(50, 2, generator=chance, dtype=torch.float64) * 8
    wanted = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(pairs)
    divergence = torch.nn.functional.kl_div(pairs.log_softmax(dim=1), wanted, reduction="none").sum(
        dim=1
    )
    assert torch.allclose(preference_divergence(pairs[:, 0], pairs[:, 1]), divergence)
    target, negatives = torch.zeros(50, dtype=torch.long), torch.zeros(50, 2, dtype=torch.bool)
    negatives[:, 1] = True
    assert torch.allclose(Pairwise()(pairs, target, negatives), divergence)


def test_divergence_of_equal_and_of_far_scores() -> None:
    positive = torch.tensor([0.0, 1.0, -500.0])
    negative = torch.tensor([0.0, 0.0, 500.0])
    found = preference_divergence(positive, negative).tolist()
    assert found == pytest.approx([math.log(2), math.log1p(math.exp(-1)), 1000.0])


def example() -> tuple[Tensor, Tensor, Tensor]:
    scores = torch.tensor([[0.5, 0.45, 0.9, 0.1], [0.2, 0.3, 0.0, 0.4]], requires_grad=True)
    negatives = torch.tensor([[False, True, True, False], [False] * 4])
    return scores, torch.tensor([0, 1]), negatives


def test_margin_ranking_by_hand() -> None:
    scores, target, negatives = example()
    costs = margin_ranking(scores, target, negatives, 0.1)
    # leads 0.05 and -0.4: costs 0.05 and 0.5, mean 0.275; the second row has no negatives
    assert costs.tolist() == pytest.approx([0.275, 0.0])
    costs.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 0.5, 0.5, 0.0], [0.0] * 4]


def test_a_lead_beyond_the_margin_costs_nothing() -> None:
    scores, target, negatives = example()
    negatives = torch.tensor([[False, False, False, True], [False, False, True, False]])
    assert margin_ranking(scores, target, negatives, 0.2).tolist() == [0.0, 0.0]


def test_spoken_mean_counts_what_is_spoken_of() -> None:
    values = torch.tensor([[1.0, 2.0], [4.0, float("inf")]], requires_grad=True)
    spoken = torch.tensor([[True, True], [True, False]])
    mean = spoken_mean(values, spoken)
    assert mean.item() == pytest.approx(7 / 3)
    mean.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == [[pytest.approx(1 / 3)] * 2, [pytest.approx(1 / 3), 0.0]]


def test_spoken_mean_of_silent_texts_is_zero_without_gradient() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    mean = spoken_mean(values, torch.zeros(2, 3, dtype=torch.bool))
    assert mean.item() == 0.0
    mean.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert not values.grad.any()
