"""The margin terms of DQE-CIR, as functions of scores. Imports torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


def margin_ranking(scores: Tensor, target: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Hinge (B,) relu(margin - (s_target - s_negative)), averaged over each row's negatives.

    Args:
        scores: (B, C) cosines.
        target: (B,) column of the target.
        negatives: (B, C) bool.
        margin: Margin in cosine; a negative further below the target has loss 0.

    A row without negatives has loss 0.

    Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037 (margin ranking term, attribute losses).
    """
    lead = scores.gather(1, target[:, None]) - scores
    hinges = torch.relu(margin - lead)
    masked = torch.where(negatives, hinges, torch.zeros_like(hinges))
    return masked.sum(dim=1) / negatives.sum(dim=1).clamp(min=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (scalar) of values (B, A) under a mask; 0, with gradient 0, where the mask is empty.

    Args:
        values: (B, A) loss of each query and attribute.
        mask: (B, A) bool, whether the query's text mentions the attribute.
    """
    masked = torch.where(mask, values, torch.zeros_like(values))
    return masked.sum() / mask.sum().clamp(min=1)
