"""Scores between unit vectors, one or several per image."""

from __future__ import annotations

import torch
from torch import Tensor


def best_token(query: Tensor, target: Tensor) -> Tensor:
    """Scores (B, C): dot products, the best of T tokens where targets are (C, T, D).

    Source: Li et al., BLIP-2, arXiv 2301.12597, section 3.1 (highest token similarity).
    """
    if target.dim() == 2:
        return query @ target.T
    tokens = target.shape[1]
    flat = query @ target.reshape(-1, target.shape[-1]).T  # (B, C*T)
    return flat.view(query.shape[0], -1, tokens).amax(dim=-1)


def unit(vectors: Tensor) -> Tensor:
    """The vectors (..., D) at unit length."""
    return torch.nn.functional.normalize(vectors, dim=-1)
