from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins import mean_over, require_negatives
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.testing import ContractError, check_loss


@dataclass
class _FromFunction:
    """A loss made of a function."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    scaled: Any = True

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        return self.function(scores, target, negatives)


good = InfoNCE()


def lead(scores: Tensor, target: Tensor) -> Tensor:
    return scores.gather(1, target[:, None]) - scores


def without_error(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    return mean_over(torch.relu(0.2 - lead(scores, target)), negatives)


def wrong_way(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    require_negatives(negatives)
    return mean_over(torch.relu(2 + lead(scores, target)), negatives)


def everyone_counts(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    rows = require_negatives(negatives)
    return torch.where(rows, torch.relu(2 - lead(scores, target)).mean(dim=1), 0.0)


def empty_rows_cost(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    require_negatives(negatives)
    return torch.relu(1 - lead(scores, target)).mul(negatives).sum(dim=1) + 0.5


def by_batch(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    return good(scores, target, negatives) / len(scores)


def by_column(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    require_negatives(negatives)
    weight = torch.arange(scores.shape[1]) + 1.0
    return mean_over(torch.relu(2 - lead(scores, target)) * weight, negatives)


def overwrites(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    value = good(scores, target, negatives)
    if not scores.requires_grad:
        scores.mul_(2)
    return value


def too_large_for_half(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    require_negatives(negatives)
    masked = scores.masked_fill(~negatives, -1e9)
    rows = negatives.any(dim=1)
    return torch.where(rows, torch.relu(2 - lead(masked, target)).mul(negatives).mean(dim=1), 0.0)


def another_error(scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    if not negatives.any():
        raise RuntimeError("empty")
    return good(scores, target, negatives)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (_FromFunction(good, scaled="yes"), "needs an attribute 'scaled'"),
        (_FromFunction(lambda s, t, n: good(s, t, n).mean()), r"unreduced, must have shape \(6,\)"),
        (_FromFunction(without_error), "a batch without any negative must raise ValueError"),
        (_FromFunction(wrong_way), "a higher score of the target raises the loss"),
        (
            _FromFunction(everyone_counts),
            "candidates that are neither target nor negatives, in rows",
        ),
        (_FromFunction(empty_rows_cost), "a row without negatives must cost 0, found 0.5"),
        (_FromFunction(by_batch), "losses of some rows without the others: off by"),
        (_FromFunction(by_column), "losses with columns in another order: off by"),
        (_FromFunction(overwrites), "the loss changes its input 'scores' in place"),
        (_FromFunction(lambda s, t, n: good(s.detach(), t, n)), "no gradient reaches the scores"),
        (
            _FromFunction(too_large_for_half),
            r"raises RuntimeError on scores \(6, 9\) in float16: value",
        ),
        (_FromFunction(another_error), "must raise ValueError, not RuntimeError: empty"),
        (_FromFunction(lambda s, t: s.sum(1)), r"the loss raises TypeError on scores \(6, 9\): "),
        (InfoNCE, r"the loss must be built: give the check InfoNCE\(\), not the class"),
        (_FromFunction(lambda s, t, n: good(s, t, n) / 0), "holds NaN or infinite numbers"),
    ],
)
def test_a_broken_loss_contract_is_named(loss: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_loss(loss)
