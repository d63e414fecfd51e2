from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import (
    InfoNCE,
    Margin,
    NoNegativesError,
    Pairwise,
    mean_over,
    require_negatives,
)
from cir_plugins.errors import CIRError
from cir_plugins.testing import check_loss

LOSSES = [InfoNCE(), Pairwise(), Margin()]


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Three rows of four, targets 0, 2, 3; two negatives, one, none."""
    scores = torch.tensor(
        [[1.0, 0.0, 2.0, 9.0], [0.5, 9.0, 0.0, 9.0], [1.0, 1.0, 1.0, 1.0]], requires_grad=True
    )
    negatives = torch.zeros(3, 4, dtype=torch.bool)
    negatives[0, 1] = negatives[0, 2] = negatives[1, 0] = True
    return scores, torch.tensor([0, 2, 3]), negatives


def test_info_nce_by_hand() -> None:
    result = InfoNCE()(*example()).tolist()
    # log(e^1 + e^0 + e^2) - 1; log(e^0 + e^0.5) - 0
    first = math.log(math.e + 1 + math.e**2) - 1
    second = math.log(1 + math.e**0.5)
    assert result == pytest.approx([first, second, 0.0])


def test_pairwise_by_hand() -> None:
    result = Pairwise()(*example()).tolist()
    # leads 1 and -1: (log(1 + e^-1) + log(1 + e^1)) / 2; lead -0.5
    first = (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
    assert result == pytest.approx([first, math.log(1 + math.exp(0.5)), 0.0])


def test_margin_by_hand() -> None:
    result = Margin(margin=0.25)(*example()).tolist()
    # leads 1 and -1: (0 + 1.25) / 2; lead -0.5: 0.75
    assert result == pytest.approx([0.625, 0.75, 0.0])


def test_info_nce_is_cross_entropy() -> None:
    """Where all other columns are negatives."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 9, generator=rng)
    target = torch.randint(0, 9, (6,), generator=rng)
    negatives = torch.ones(6, 9, dtype=torch.bool).scatter(1, target[:, None], False)
    expected = torch.nn.functional.cross_entropy(scores, target, reduction="none")
    assert torch.allclose(InfoNCE()(scores, target, negatives), expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_reaches_target_and_negatives_alone(loss: Any) -> None:
    scores, target, negatives = example()
    loss(scores, target, negatives).sum().backward()
    assert scores.grad is not None
    allowed = negatives.clone()
    allowed[0, 0] = allowed[1, 2] = True
    assert torch.isfinite(scores.grad).all()
    assert not scores.grad[~allowed].any()
    assert scores.grad[1, 2] < 0 < scores.grad[1, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_columns_that_are_no_negatives_may_hold_anything(loss: Any) -> None:
    scores, target, negatives = example()
    plain = loss(scores, target, negatives)
    with torch.no_grad():
        scores[0, 3] = scores[1, 1] = -1e30
    assert torch.allclose(loss(scores, target, negatives), plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_negatives_is_an_error(loss: Any) -> None:
    """The message names the settings that give negatives."""
    scores, target, negatives = example()
    with pytest.raises(NoNegativesError, match="no row of the batch has a negative"):
        loss(scores, target, torch.zeros_like(negatives))
    with pytest.raises(CIRError, match=r"accepted: a larger train\.batch_size"):
        require_negatives(torch.zeros_like(negatives))
    assert require_negatives(negatives).tolist() == [True, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_contract(loss: Any) -> None:
    check_loss(loss)


def test_mean_over_is_masked() -> None:
    values = torch.tensor([[1.0, 3.0, float("nan")], [float("inf")] * 3])
    mask = torch.tensor([[True, True, False], [False] * 3])
    assert mean_over(values, mask).tolist() == [2.0, 0.0]


def test_margin_below_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="margin must be at least 0, not -1"):
        Margin(margin=-1)
