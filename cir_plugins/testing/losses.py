"""The contract of losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cir_plugins.plugins.declarations import BATCH_DEPENDENT
from cir_plugins.testing.contract import (
    ContractError,
    calling,
    require,
    require_built,
    require_close,
    require_finite,
    require_tensor,
    require_unchanged,
    shown,
)

_ROWS, _COLUMNS = 6, 9
_EMPTY = 3


def check_loss(loss: Any, *, seed: int = 0) -> None:
    """Check that a loss gives per-query losses as the host relies on.

    It gives one value per query (B,); a row without negatives costs 0 and a batch without any is
    a ``ValueError``; gradients reach the scores of target and negatives alone, and a higher score
    of the target never costs more; a row's loss depends on that row alone unless the loss is
    ``batch_dependent``, whatever the order of columns; inputs stay as they are; ``scaled`` is True
    for scores over the temperature.

    Args:
        loss: The loss, built.
        seed: Of the made-up scores.

    Raises:
        ContractError: With what to fix.
    """
    require_built("loss", loss)
    require(
        isinstance(getattr(loss, "scaled", None), bool),
        "the loss needs an attribute 'scaled': True for scores over the temperature, else False",
    )
    scores, target, negatives = _inputs(seed)
    values = _losses(loss, scores, target, negatives)
    require(
        float(values[_EMPTY].detach()) == 0,
        f"a row without negatives must cost 0, found {float(values[_EMPTY].detach()):.4g}",
    )
    _check_gradient(loss, scores, target, negatives)
    _check_rows(loss, values.detach(), scores, target, negatives)
    for dtype in (torch.float16, torch.bfloat16):
        _losses(loss, scores.to(dtype), target, negatives)
    _check_empty(loss, scores, target, negatives)


def _inputs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, among them a row whose target is lowest; and one row without negatives."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(_ROWS, _COLUMNS, generator=rng) * 1.6 - 0.8
    target = torch.randint(_COLUMNS, (_ROWS,), generator=rng)
    scores[0, target[0]] = -0.85
    negatives = torch.rand(_ROWS, _COLUMNS, generator=rng) < 0.5
    negatives[:, 0] = True
    negatives[:, -1] = True
    negatives[_EMPTY] = False
    return scores, target, negatives.scatter(1, target[:, None], False)


def _losses(loss: Any, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    inputs = {"scores": scores.clone(), "target": target.clone(), "negatives": negatives.clone()}
    before = {name: value.clone() for name, value in inputs.items()}
    with calling("the loss", shown(scores)):
        result = loss(inputs["scores"], inputs["target"], inputs["negatives"])
    values = require_tensor("the loss, which is left unreduced,", result, (len(scores),))
    require(values.is_floating_point(), f"the loss must be floating point, not {values.dtype}")
    require(values.device == scores.device, f"the loss is on {values.device}, not {scores.device}")
    require_unchanged("the loss", before, inputs)
    require_finite(f"the loss of {scores.dtype} scores", values)
    return values


def _check_gradient(loss: Any, scores: Tensor, target: Tensor, negatives: Tensor) -> None:
    leaf = scores.clone().requires_grad_()
    with calling("the loss", f"{shown(scores)} with a gradient"):
        values = loss(leaf, target, negatives)
    require(values.requires_grad, "no gradient reaches the scores: is something detached?")
    with calling("the loss's backward pass", shown(scores)):
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    require_finite("the gradient", gradient)
    allowed = negatives.scatter(1, target[:, None], True)
    outside = gradient.masked_fill(allowed, 0).abs().sum(dim=1).nonzero().flatten().tolist()
    require(
        not outside,
        f"gradient reaches candidates that are neither target nor negatives, in rows {outside}",
    )
    require(not bool(gradient[_EMPTY].any()), "a row without negatives must have no gradient")
    require(bool(gradient[0].any()), "a row whose target scores lowest gets no gradient")
    at_target = gradient.gather(1, target[:, None])
    require(
        bool((at_target <= 0).all()),
        "a higher score of the target raises the loss: higher is closer",
    )


def _check_rows(
    loss: Any, values: Tensor, scores: Tensor, target: Tensor, negatives: Tensor
) -> None:
    if not BATCH_DEPENDENT.of(loss):
        some = torch.tensor([0, 2, _EMPTY])
        alone = _losses(loss, scores[some], target[some], negatives[some])
        require_close("losses of some rows without the others", alone, values[some], 1e-5)
    order = torch.arange(_COLUMNS - 1, -1, -1)
    moved = _losses(loss, scores[:, order], order.argsort()[target], negatives[:, order])
    require_close("losses with columns in another order", moved, values, 1e-5)


def _check_empty(loss: Any, scores: Tensor, target: Tensor, negatives: Tensor) -> None:
    must = "a batch without any negative must raise ValueError"
    try:
        loss(scores, target, torch.zeros_like(negatives))
    except ValueError:
        return
    except Exception as error:  # a loss of another hand may raise anything
        raise ContractError(
            f"{must}, not {type(error).__name__}: {error} (cir_plugins.require_negatives does it)"
        ) from error
    raise ContractError(
        f"{must}: it would train nothing, silently (cir_plugins.require_negatives does it)"
    )
