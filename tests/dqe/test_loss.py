from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE, Pairwise
from cir_plugins.types import Loss
from dqe_plugin.loss import margin_ranking, masked_mean

LOSSES = pytest.mark.parametrize("loss", [Pairwise(), InfoNCE()], ids=["pairwise", "info_nce"])


def loss_of_pairs(loss: Loss, pairs: Tensor) -> Tensor:
    """Cost (B,) of pairs (B, 2) of a target's score and its one negative's."""
    target = torch.zeros(len(pairs), dtype=torch.long)
    negatives = torch.tensor([False, True]).expand(len(pairs), 2)
    return loss(pairs, target, negatives)


@LOSSES
def test_one_negative_gives_the_kl_divergence(loss: Loss) -> None:
    """Against torch's KL divergence of the two distributions, in value and in gradient."""
    rng = torch.Generator().manual_seed(0)
    pairs = torch.randn(50, 2, generator=rng, dtype=torch.float64) * 8
    one_hot = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(pairs)
    scores_of_pairs, plain = pairs.clone().requires_grad_(), pairs.clone().requires_grad_()
    losses = loss_of_pairs(loss, scores_of_pairs)
    divergence = torch.nn.functional.kl_div(plain.log_softmax(dim=1), one_hot, reduction="none")
    assert torch.allclose(losses, divergence.sum(dim=1))
    (slope,) = torch.autograd.grad(losses.sum(), scores_of_pairs)
    (reference,) = torch.autograd.grad(divergence.sum(), plain)
    assert torch.allclose(slope, reference)


@LOSSES
def test_divergence_of_equal_and_of_far_scores(loss: Loss) -> None:
    pairs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-500.0, 500.0]])
    scores_of_pairs = loss_of_pairs(loss, pairs).tolist()
    assert scores_of_pairs == pytest.approx([math.log(2), math.log1p(math.exp(-1)), 1000.0])


def example() -> tuple[Tensor, Tensor, Tensor]:
    scores = torch.tensor([[0.5, 0.45, 0.9, 0.1], [0.2, 0.3, 0.0, 0.4]], requires_grad=True)
    negatives = torch.tensor([[False, True, True, False], [False] * 4])
    return scores, torch.tensor([0, 1]), negatives


def test_margin_ranking_by_hand() -> None:
    scores, target, negatives = example()
    losses = margin_ranking(scores, target, negatives, 0.1)
    # leads 0.05 and -0.4: losses 0.05 and 0.5, mean 0.275; the second row has no negatives
    assert losses.tolist() == pytest.approx([0.275, 0.0])
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 0.5, 0.5, 0.0], [0.0] * 4]


def test_a_lead_beyond_the_margin_is_free() -> None:
    scores, target, negatives = example()
    negatives = torch.tensor([[False, False, False, True], [False, False, True, False]])
    assert margin_ranking(scores, target, negatives, 0.2).tolist() == [0.0, 0.0]


def test_masked_mean_covers_the_mask() -> None:
    values = torch.tensor([[1.0, 2.0], [4.0, float("inf")]], requires_grad=True)
    spoken = torch.tensor([[True, True], [True, False]])
    mean = masked_mean(values, spoken)
    assert mean.item() == pytest.approx(7 / 3)
    mean.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == [[pytest.approx(1 / 3)] * 2, [pytest.approx(1 / 3), 0.0]]


def test_masked_mean_of_an_empty_mask_is_zero() -> None:
    """With gradient zero."""
    values = torch.ones(2, 3, requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, 3, dtype=torch.bool))
    assert mean.item() == 0.0
    mean.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert not values.grad.any()
