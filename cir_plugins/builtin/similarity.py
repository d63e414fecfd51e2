"""Scores between unit vectors, one or several per image."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor


def full_precision(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of tensors that computes in fp32 under autocast.

    A cosine near 1 rounded to bf16 is off by up to 0.002: 0.2 of a logit over a temperature of
    0.01. Outside of autocast nothing changes, for tensors of any type.
    """

    @wraps(score)
    def run(*tensors: Tensor) -> Tensor:
        kind = tensors[0].device.type
        if not torch.is_autocast_enabled(kind):
            return score(*tensors)
        with torch.autocast(kind, enabled=False):
            return score(*(tensor.float() for tensor in tensors))

    return run


@full_precision
def best_token(query: Tensor, target: Tensor) -> Tensor:
    """Scores (B, C): dot products, the best of T tokens where targets are (C, T, D).

    In fp32 under autocast.

    Source: Li et al., BLIP-2, arXiv 2301.12597, section 3.1 (highest token similarity).
    """
    if target.dim() == 2:
        return query @ target.T
    tokens = target.shape[1]
    scores = query @ target.reshape(-1, target.shape[-1]).T  # (B, C*T)
    return scores.view(query.shape[0], -1, tokens).amax(dim=-1)


def unit(vectors: Tensor) -> Tensor:
    """The vectors (..., D) at unit length."""
    return torch.nn.functional.normalize(vectors, dim=-1)
