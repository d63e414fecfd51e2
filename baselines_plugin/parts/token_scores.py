"""Scores between queries and targets of several tokens each: CoVR-2's mean and maximum."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from cir_plugins import best_token


def mean_score(query: Tensor, target: Tensor) -> Tensor:
    """Dot products (B, C) of the means of query tokens (B, S, D) and target tokens (C, T, D)."""
    return query.mean(dim=1) @ target.mean(dim=1).T


def best_pair(query: Tensor, target: Tensor) -> Tensor:
    """Highest dot product (B, C) over pairs of query token (B, S, D) and target token (C, T, D).

    Computed for one query token at a time, so that memory is (B, C, T).
    """
    return reduce(torch.maximum, (best_token(tokens, target) for tokens in query.unbind(1)))
