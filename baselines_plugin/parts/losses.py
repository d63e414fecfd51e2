"""HN-NCE, the loss of CoVR and CoVR-2."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines_plugin.ranges import Scale, Weight
from cir_plugins import require_negatives


class HardNegativeNCE:
    """HN-NCE: cross-entropy with larger weights for harder negatives.

    With W_ij = n_i e^{β s_ij} / Σ_k e^{β s_ik} over the n_i negatives of query i, and U_ij the same
    over the column of j, a query costs
    log(α e^{s_it} + Σ_j W_ij e^{s_ij}) - s_it, plus the same down the column of its target t. The
    directions are summed, and gradients flow through the weights. α = 1 and β = 0 is InfoNCE.

    The loss of a query depends on the other queries of the batch, unless ``direction`` is
    ``query`` and ``axis`` is ``own``.

    Args:
        alpha: Weight of the target in the sum, above 0.
        beta: Exponent of the hardness weights, at least 0; 0 for equal weights.
        axis: The denominator of W_ij. ``official``: that of the query whose target is column j, as
            in the released code, whose division runs along the other axis. ``own``: that of query
            i, as in the paper. A column that is no query's target always has that of query i.
        direction: ``both``, or ``query`` for the rows alone.

    Raises:
        ValueError: If an option is out of range.

    Source: Radenovic et al., arXiv 2301.02280 (HN-NCE); Ventura et al., CoVR, arXiv 2308.14746
    (α = 1, β = 0.5, τ = 0.07).
    """

    scaled: ClassVar[bool] = True

    def __init__(
        self,
        *,
        alpha: Scale = 1.0,
        beta: Weight = 0.5,
        axis: Literal["official", "own"] = "official",
        direction: Literal["both", "query"] = "both",
    ) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be above 0, not {alpha}")
        if beta < 0:
            raise ValueError(f"beta must be at least 0, not {beta}")
        self.alpha = alpha
        self.beta = beta
        self.axis = axis
        self.direction = direction

    @property
    def batch_dependent(self) -> bool:
        """Whether the loss of a query depends on other queries of the batch."""
        return self.direction == "both" or self.axis == "official"

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,), computed in fp32."""
        rows = require_negatives(negatives)
        scores = scores.float()
        positive = scores.gather(1, target[:, None]).squeeze(1)
        log_rows, log_columns = self.log_weights(scores, target, negatives)
        loss = (scores + log_rows).logsumexp(dim=1) - positive
        if self.direction == "both":
            down = scores[:, target] + log_columns  # (B, B)
            loss = loss + down.logsumexp(dim=0) - positive
        return torch.where(rows, loss, torch.zeros_like(loss))

    def log_weights(
        self, scores: Tensor, target: Tensor, negatives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logarithms of W (B, C) and of U (B, B), log α at targets, -inf at other non-negatives.

        Rows of U are the queries, columns the targets of the queries.
        """
        mask = negatives.scatter(1, target[:, None], False)
        positives = torch.zeros_like(mask).scatter(1, target[:, None], True)
        hard = self.beta * scores
        under = log_sum(hard, mask, dim=1)  # (B, 1)
        if self.axis == "official":
            under = _paired(under, mask.any(dim=1), target, scores.shape[1])
        across = (hard + _log_count(mask, 1) - under).masked_fill(~mask, -torch.inf)

        square = mask[:, target]
        column = hard[:, target]
        down = column + _log_count(square, 0) - log_sum(column, square, dim=0)
        down = down.masked_fill(~square, -torch.inf)
        diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        alpha = math.log(self.alpha)
        return across.masked_fill(positives, alpha), down.masked_fill(diagonal, alpha)


def log_sum(values: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Masked log-sum-exp along ``dim``, 0 where the mask is empty."""
    some = mask.any(dim=dim, keepdim=True)
    # Under an empty mask, -inf alone would make the gradient nan.
    masked = values.masked_fill(~mask, -torch.inf).masked_fill(~some, 0.0)
    return torch.where(some, masked.logsumexp(dim=dim, keepdim=True), 0.0)


def _log_count(mask: Tensor, dim: int) -> Tensor:
    return mask.sum(dim=dim, keepdim=True).clamp(min=1).float().log()


def _paired(under: Tensor, valid: Tensor, target: Tensor, columns: int) -> Tensor:
    """Denominators (B, C): that of the first query whose target the column is, else the row's."""
    rows = torch.arange(len(target), device=target.device)
    first = torch.full((columns,), len(target), device=target.device)
    first = first.scatter_reduce(0, target[valid], rows[valid], "amin")
    query = first.clamp(max=len(target) - 1)
    return torch.where(first < len(target), under[query].T, under)
