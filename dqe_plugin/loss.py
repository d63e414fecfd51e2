"""The margin terms of DQE-CIR: arithmetic on scores, nothing else. Imports torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


def margin_ranking(scores: Tensor, target: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Hinge (B,) relu(margin - (s_target - s_negative)), averaged over each row's negatives.

    Args:
        scores: (B, C) cosines.
        target: (B,) column of the target.
        negatives: (B, C) bool.
        margin: Lead in cosine from which a negative costs nothing.

    A row without negatives costs 0.

    Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037 (margin ranking term, attribute losses).
    """
    lead = scores.gather(1, target[:, None]) - scores
    costs = torch.relu(margin - lead)
    kept = torch.where(negatives, costs, torch.zeros_like(costs))
    return kept.sum(dim=1) / negatives.sum(dim=1).clamp(min=1)


def spoken_mean(values: Tensor, spoken: Tensor) -> Tensor:
    """Mean (scalar) of values (B, A) over the pairs of query and attribute that are spoken of.

    Args:
        values: (B, A) loss of each attribute.
        spoken: (B, A) bool, whether the text speaks of the attribute.

    0, with gradient 0, where no text of the batch speaks of any attribute.
    """
    kept = torch.where(spoken, values, torch.zeros_like(values))
    return kept.sum() / spoken.sum().clamp(min=1)
