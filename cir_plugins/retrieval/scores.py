"""Scores of queries and candidates, a block of queries at a time. Imports torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

# Scores of a block: fewer make the matrix product slow.
CELLS = 2_600_000
# A GPU is fastest with few large blocks; the sampler's copies of this one take about a GiB.
GPU_CELLS = 64_000_000
# A block of few queries makes the matrix product slow: up to this many are taken together where
# they need no more than _MOST_CELLS.
_LEAST_ROWS, _MOST_CELLS = 16, 8_000_000

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
    most = max(1, _MOST_CELLS // candidates)
    return max(1, CELLS // candidates, min(_LEAST_ROWS, most))


def score(queries: Tensor, gallery: Tensor, similarity: Similarity) -> Tensor:
    """Scores (q, N) of a block; by slices of the gallery where more than they would be computed.

    On a CPU with one thread a query has the same scores, to the bit, alone and among others; with
    several, last bits may differ on some processors.
    """
    count, on_cpu = len(queries), queries.device.type == "cpu"
    if on_cpu and 0 < count < _ALIKE:
        padding = queries[-1:].expand(_ALIKE - count, *queries.shape[1:])
        queries = torch.cat([queries, padding])
    tokens = gallery.shape[1] if gallery.dim() == 3 else 1
    with torch.no_grad():
        if tokens == 1 and len(queries) == count:
            return similarity(queries, gallery)
        width = max(1, (CELLS if on_cpu else GPU_CELLS) // (len(queries) * tokens))
        # Even ones: the product of a slice of a few images takes another path, too.
        slices = gallery.tensor_split(max(1, -(-len(gallery) // width)))
        return torch.cat([similarity(queries, each)[:count].clone() for each in slices], dim=1)


def one_vector(vectors: Tensor) -> Tensor:
    """Vectors (n, D): of several vectors (n, T, D) their mean, of unit length."""
    if vectors.dim() == 2:
        return vectors
    return normalize(vectors.float().mean(dim=1), dim=-1).to(vectors.dtype)
