from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from baselines_plugin.parts.losses import HardNegativeNCE
from cir_plugins.testing import check_loss

Axis = Literal["official", "own"]
TWO = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
DIAGONAL = torch.arange(2)
OFF = ~torch.eye(2, dtype=torch.bool)


def log_sum(*values: float) -> float:
    return math.log(sum(math.exp(value) for value in values))


def test_without_hardness_it_is_both_cross_entropies() -> None:
    result = HardNegativeNCE(beta=0.0)(TWO, DIAGONAL, OFF)
    first = log_sum(1, 0) - 1 + log_sum(1, 0.5) - 1
    second = log_sum(0.5, 2) - 2 + log_sum(0, 2) - 2
    assert result.tolist() == pytest.approx([first, second])
    rows = HardNegativeNCE(beta=0.0, direction="query")(TWO, DIAGONAL, OFF)
    assert rows.tolist() == pytest.approx([log_sum(1, 0) - 1, log_sum(0.5, 2) - 2])


def test_the_axis_by_hand() -> None:
    """One negative each: weight 1 under ``own``, under ``official`` e^(β s_01) / e^(β s_10)."""
    unpaired = HardNegativeNCE(axis="own").log_weights(TWO, DIAGONAL, OFF)
    assert all(torch.allclose(weights, torch.zeros(2, 2)) for weights in unpaired)
    rows, columns = HardNegativeNCE().log_weights(TWO, DIAGONAL, OFF)
    assert torch.allclose(rows, torch.tensor([[0.0, -0.25], [0.25, 0.0]]))
    assert torch.allclose(columns, torch.zeros(2, 2))
    value = HardNegativeNCE()(TWO, DIAGONAL, OFF)
    assert value[0].item() == pytest.approx(log_sum(1, -0.25) - 1 + log_sum(1, 0.5) - 1)


def test_alpha_weighs_the_target() -> None:
    result = HardNegativeNCE(alpha=2.0, beta=0.0, direction="query")(TWO, DIAGONAL, OFF)
    assert result[0].item() == pytest.approx(math.log(2 * math.e + 1) - 1)


def slow(
    scores: Tensor, target: Tensor, negatives: Tensor, alpha: float, beta: float, axis: Axis
) -> list[float]:
    """The definition in loops; weights not in logarithms."""
    rows, columns = scores.shape
    hard = (beta * scores).exp().tolist()
    s, t = scores.tolist(), target.tolist()
    mask = negatives.tolist()
    sums = [sum(hard[i][j] for j in range(columns) if mask[i][j]) for i in range(rows)]
    losses = []
    for i in range(rows):
        negative_columns = [j for j in range(columns) if mask[i][j]]
        if not negative_columns:
            losses.append(0.0)
            continue
        total = alpha * math.exp(s[i][t[i]])
        for j in negative_columns:
            whose = [k for k in range(rows) if t[k] == j and sums[k]]
            under = sums[whose[0]] if axis == "official" and whose else sums[i]
            total += len(negative_columns) * hard[i][j] / under * math.exp(s[i][j])
        met = [k for k in range(rows) if mask[k][t[i]]]
        down = alpha * math.exp(s[i][t[i]])
        for k in met:
            under = sum(hard[m][t[i]] for m in met)
            down += len(met) * hard[k][t[i]] / under * math.exp(s[k][t[i]])
        losses.append(math.log(total) + math.log(down) - 2 * s[i][t[i]])
    return losses


@pytest.mark.parametrize("axis", ["official", "own"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (0.5, 1.5), (1.0, 0.0)])
def test_like_the_definition(axis: Axis, alpha: float, beta: float) -> None:
    """With more columns than rows, shared targets, and a row without negatives."""
    for seed in range(5):
        rng = torch.Generator().manual_seed(seed)
        scores = 3 * torch.randn(5, 7, generator=rng)
        target = torch.tensor([0, 1, 2, 2, 4])
        negatives = torch.rand(5, 7, generator=rng) < 0.6
        negatives[3] = False
        negatives = negatives.scatter(1, target[:, None], False)
        negatives[0, 6] = True
        result = HardNegativeNCE(alpha=alpha, beta=beta, axis=axis)(scores, target, negatives)
        assert result.tolist() == pytest.approx(
            slow(scores, target, negatives, alpha, beta, axis), rel=1e-4, abs=1e-5
        )


def test_gradients_are_finite_for_empty_rows() -> None:
    """And for empty columns."""
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    negatives = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]).bool()
    HardNegativeNCE()(scores, torch.tensor([0, 1, 2]), negatives).sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert not scores.grad[1].any()
    assert scores.grad[0, 2] > 0


def test_weights_are_part_of_the_gradient() -> None:
    """d/ds of log(e^1 + e^(β s01 - β s10) e^s01) - 1 by s10 is -β times the softmax of s01."""
    leaf = TWO.clone().requires_grad_()
    value = HardNegativeNCE(direction="query")(leaf, DIAGONAL, OFF)[0]
    (gradient,) = torch.autograd.grad(value, leaf)
    share = math.exp(-0.25) / (math.exp(-0.25) + math.e)
    assert gradient[1, 0].item() == pytest.approx(-0.5 * share)


def test_large_scores_do_not_overflow() -> None:
    scores = torch.tensor([[100.0, -100.0], [90.0, 100.0]])
    assert torch.isfinite(HardNegativeNCE()(scores, DIAGONAL, OFF)).all()


def test_rows_alone_keep_the_contract_of_losses() -> None:
    loss = HardNegativeNCE(axis="own", direction="query")
    assert not loss.batch_dependent
    for seed in range(3):
        check_loss(loss, seed=seed)
    assert HardNegativeNCE().batch_dependent
    assert HardNegativeNCE(axis="own").batch_dependent


@pytest.mark.parametrize(
    ("options", "message"),
    [({"alpha": 0.0}, "alpha must be above 0"), ({"beta": -1.0}, "beta must be at least 0")],
)
def test_options_out_of_range_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardNegativeNCE(**options)  # type: ignore[arg-type]
