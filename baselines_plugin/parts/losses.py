"""Losses of the baselines that are of use elsewhere too."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cir_plugins import require_negatives


class HardNegativeNCE:
    """HN-NCE: cross-entropy in which hard negatives weigh more than easy ones.

    With W_ij = n_i e^{β s_ij} / Σ_k e^{β s_ik} over the n_i negatives of query i, and U_ij the same
    over the column of j, a query costs
    log(α e^{s_it} + Σ_j W_ij e^{s_ij}) - s_it, plus the same down the column of its target t. The
    directions are summed, and gradients flow through the weights. α = 1 and β = 0 is InfoNCE.

    Down a column, the queries of a batch meet: a price depends on the other rows too, unless
    ``direction`` is ``query`` and ``axis`` is ``own``.

    Args:
        alpha: Weight of the target in the sum, above 0.
        beta: How much hardness counts; 0 for not at all.
        axis: ``official``: the sum under W_ij is that of the query whose target column j is, as in
            the released code and models, whose division runs along the other axis. ``own``: that
            of query i, as in the paper. Columns that are nobody's target have the own sum only.
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
        alpha: float = 1.0,
        beta: float = 0.5,
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
        """Whether the price of a row depends on other rows."""
        return self.direction == "both" or self.axis == "official"

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,), computed in fp32."""
        rows = require_negatives(negatives)
        scores = scores.float()
        own = scores.gather(1, target[:, None]).squeeze(1)
        log_rows, log_columns = self.log_weights(scores, target, negatives)
        price = (scores + log_rows).logsumexp(dim=1) - own
        if self.direction == "both":
            down = scores[:, target] + log_columns  # (B, B)
            price = price + down.logsumexp(dim=0) - own
        return torch.where(rows, price, torch.zeros_like(price))

    def log_weights(
        self, scores: Tensor, target: Tensor, negatives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logarithms of W (B, C) and of U (B, B), -inf where nothing counts.

        U has a column for each query's target, its rows are the queries; both have log α at
        the targets.
        """
        kept = negatives.scatter(1, target[:, None], False)
        place = torch.zeros_like(kept).scatter(1, target[:, None], True)
        hard = self.beta * scores
        under = log_sum(hard, kept, dim=1)  # (B, 1)
        if self.axis == "official":
            under = _paired(under, kept.any(dim=1), target, scores.shape[1])
        across = (hard + _log_count(kept, 1) - under).masked_fill(~kept, -torch.inf)

        met = kept[:, target]
        column = hard[:, target]
        down = column + _log_count(met, 0) - log_sum(column, met, dim=0)
        down = down.masked_fill(~met, -torch.inf)
        itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        alpha = math.log(self.alpha)
        return across.masked_fill(place, alpha), down.masked_fill(itself, alpha)


def log_sum(values: Tensor, kept: Tensor, dim: int) -> Tensor:
    """Logarithm of the sum of e^values over what is kept along ``dim``, 0 where nothing is."""
    there = kept.any(dim=dim, keepdim=True)
    # Where nothing is kept, -inf alone would give the gradient nan.
    masked = values.masked_fill(~kept, -torch.inf).masked_fill(~there, 0.0)
    return torch.where(there, masked.logsumexp(dim=dim, keepdim=True), 0.0)


def _log_count(kept: Tensor, dim: int) -> Tensor:
    return kept.sum(dim=dim, keepdim=True).clamp(min=1).float().log()


def _paired(under: Tensor, there: Tensor, target: Tensor, columns: int) -> Tensor:
    """For each place (B, C) the sum of the first query whose target the column is, else the own."""
    rows = torch.arange(len(target), device=target.device)
    first = torch.full((columns,), len(target), device=target.device)
    first = first.scatter_reduce(0, target[there], rows[there], "amin")
    whose = first.clamp(max=len(target) - 1)
    return torch.where(first < len(target), under[whose].T, under)
