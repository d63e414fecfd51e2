"""Scores of queries and candidates, a block of queries at a time. Imports torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Scores of a block: fewer make the matrix product slow.
CELLS = 2_600_000
# A GPU is fastest with few large blocks; the sampler's copies of this one take about a GiB.
GPU_CELLS = 64_000_000
# With fewer rows a CPU's matrix product takes other paths, whose sums differ in the last bits: with
# fewer than 4 at a width of 64, than 12 at 256, than 16 from 512 on.
_ALIKE = 16

Similarity = Callable[[Tensor, Tensor], Tensor]


def rows_per_block(candidates: int, device: torch.device) -> int:
    """Number of queries in a block.

    Raises:
        ValueError: If there is no candidate.
    """
    if candidates < 1:
        raise ValueError("there are 0 candidates; accepted: 1 or more")
    if device.type != "cpu":
        return max(1, GPU_CELLS // candidates)
    return max(_ALIKE, CELLS // candidates)


def score(queries: Tensor, gallery: Tensor, similarity: Similarity) -> Tensor:
    """Scores (q, N) of a block, by slices of the gallery where its images have several tokens.

    On a CPU a query has the same scores, to the bit, alone and among others.
    """
    count = len(queries)
    if 0 < count < _ALIKE and queries.device.type == "cpu":
        padding = queries[-1:].expand(_ALIKE - count, *queries.shape[1:])
        return score(torch.cat([queries, padding]), gallery, similarity)[:count]
    with torch.no_grad():
        if gallery.dim() == 2:
            return similarity(queries, gallery)
        cells = CELLS if queries.device.type == "cpu" else GPU_CELLS
        width = max(1, cells // (len(queries) * gallery.shape[1]))
        slices = [similarity(queries, images) for images in torch.split(gallery, width)]
        return torch.cat(slices, dim=1)
