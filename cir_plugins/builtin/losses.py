"""Losses of the literature: a per-query loss, from the scores of its target and its negatives.

All take scores (B, C), target columns (B,) and negatives (B, C) bool, and give (B,), unreduced. A
row without negatives costs 0; a batch without any is an error, since it would train nothing.
``scaled`` is True for a loss on scores over the temperature, False for one on cosines.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cir_plugins.errors import CIRError


class NoNegativesError(CIRError, ValueError):
    """Error of a batch without any negative, by the user's sampler or batch, or by a caller."""


def require_negatives(negatives: Tensor) -> Tensor:
    """Rows (B,) bool with negatives.

    Raises:
        NoNegativesError: If there are none.
    """
    rows = negatives.any(dim=1)
    if not bool(rows.any()):
        raise NoNegativesError(
            "no row of the batch has a negative: the loss would be zero\n"
            "accepted: a larger train.batch_size, a sampler that leaves more, or "
            "mining.negatives=mined"
        )
    return rows


class InfoNCE:
    """Cross-entropy of the target among itself and its negatives.

    Source: van den Oord et al., arXiv 1807.03748, equation 4.
    """

    scaled: ClassVar[bool] = True

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,): log-sum-exp of target and negatives, minus the target's score."""
        rows = require_negatives(negatives)
        positive = scores.gather(1, target[:, None])
        columns = negatives.scatter(1, target[:, None], True)
        total = scores.masked_fill(~columns, -torch.inf).logsumexp(dim=1)
        return torch.where(rows, total - positive.squeeze(1), torch.zeros_like(total))


class Pairwise:
    """Logistic loss of the target against each negative, averaged over the row's negatives.

    With one negative it is the Kullback-Leibler divergence from the one-hot preference (1, 0) to
    softmax([s_p, s_n]), which equals -log sigmoid(s_p - s_n).

    Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416; Park et al., DQE-CIR, arXiv 2603.04037.
    """

    scaled: ClassVar[bool] = True

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,)."""
        require_negatives(negatives)
        lead = scores.gather(1, target[:, None]) - scores
        return mean_over(-torch.nn.functional.logsigmoid(lead), negatives)


class Margin:
    """Hinge of the lead of the target over each negative, averaged over the row's negatives.

    Args:
        margin: Margin in cosine, at least 0; a negative further below the target costs 0.

    Source: Schroff et al., FaceNet, CVPR 2015, arXiv 1503.03832, equation 2, on similarities.
    """

    scaled: ClassVar[bool] = False

    def __init__(self, *, margin: Annotated[float, Field(ge=0)] = 0.2) -> None:
        if margin < 0:
            raise ValueError(f"margin must be at least 0, not {margin}")
        self.margin = margin

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,)."""
        require_negatives(negatives)
        lead = scores.gather(1, target[:, None]) - scores
        return mean_over(torch.relu(self.margin - lead), negatives)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (B,) of values (B, C) where the mask (B, C) is True; 0 for rows without any."""
    masked = torch.where(mask, values, torch.zeros_like(values))
    return masked.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
