from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE, Pairwise
from cir_plugins.types import Loss
from dqe_plugin.loss import margin_ranking, spoken_mean

LOSSES = pytest.mark.parametrize("loss", [Pairwise(), InfoNCE()], ids=["pairwise", "info_nce"])


def price_of_pairs(loss: Loss, pairs: Tensor) -> Tensor:
    """Cost (B,) of pairs (B, 2) of a target's score and its one negative's."""
    target = torch.zeros(len(pairs), dtype=torch.long)
    negatives = torch.tensor([False, True]).expand(len(pairs), 2)
    return loss(pairs, target, negatives)


@LOSSES
def test_with_one_negative_it_is_the_divergence_of_the_one_hot_preference(loss: Loss) -> None:
    """Against torch's KL divergence of the two distributions, in value and in gradient."""
    chance = torch.Generator().manual_seed(0)
    pairs = torch.randn(50, 2, generator=chance, dtype=torch.float64) * 8
    wanted = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(pairs)
    found, plain = pairs.clone().requires_grad_(), pairs.clone().requires_grad_()
    costs = price_of_pairs(loss, found)
    divergence = torch.nn.functional.kl_div(plain.log_softmax(dim=1), wanted, reduction="none")
    assert torch.allclose(costs, divergence.sum(dim=1))
    (slope,) = torch.autograd.grad(costs.sum(), found)
    (reference,) = torch.autograd.grad(divergence.sum(), plain)
    assert torch.allclose(slope, reference)


@LOSSES
def test_divergence_of_equal_and_of_far_scores(loss: Loss) -> None:
    pairs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-500.0, 500.0]])
    found = price_of_pairs(loss, pairs).tolist()
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
