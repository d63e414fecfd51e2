"""Negatives mined from embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cir_plugins.mining.blocks import Columns, pools
from cir_plugins.mining.draw import draw
from cir_plugins.retrieval.scores import Similarity


def mine_embeddings(
    queries: Tensor,
    targets: Tensor,
    target: Tensor,
    sampler: Any,
    *,
    count: int,
    seed: int,
    similarity: Similarity,
    excluded: Columns | None = None,
) -> Tensor:
    """Columns (Q, count) int64 of negatives drawn for each query, -1 for a query without any.

    Args:
        queries: (Q, D) of unit length.
        targets: (N, D) or (N, T, D) of unit length, on the same device.
        target: (Q,) int64 column of each query's target, on the CPU.
        sampler: A ``cir_plugins.types.Sampler``.
        count: Negatives per query (K).
        seed: Seed of the draw.
        similarity: Such as ``cir_plugins.best_token``.
        excluded: Columns that are no negatives, such as other positives.

    Raises:
        ValueError: If there is no target.
    """
    none = Columns(torch.zeros(len(target) + 1, dtype=torch.long), torch.empty(0).long())
    blocks = pools(
        queries,
        targets,
        target,
        none if excluded is None else excluded,
        candidates=len(targets),
        similarity=similarity,
        sampler=sampler,
    )
    drawn = torch.empty(len(target), count, dtype=torch.long)
    for block in blocks:
        rows = torch.arange(block.rows.start, block.rows.stop, device=block.mask.device)
        drawn[block.rows] = draw(block.mask, rows, count, seed).cpu()
    return drawn
