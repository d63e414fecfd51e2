"""Pools of negatives, by blocks: scores of some queries, and what the sampler leaves of them.

A block holds as many queries as keep it near the processor's caches, whatever the number of
queries and candidates: memory does not grow with either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cir_plugins.retrieval.scores import Similarity, rows_per_block, score

# The sampler sees slices of a block, which stay in the processor's caches from one operation to
# the next.
SLICE_CELLS = 1_300_000


@dataclass(frozen=True)
class Columns:
    """Some columns for each row, such as its known positives.

    Attributes:
        starts: (Q + 1,) int64, where each row's columns start and the last one's end.
        columns: (M,) int64 columns, row after row.
    """

    starts: Tensor
    columns: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Columns:
        """The columns listed for each row."""
        sizes = torch.tensor([0, *(len(row) for row in rows)])
        return cls(sizes.cumsum(0), torch.tensor([c for row in rows for c in row]).long())

    @classmethod
    def gathered(cls, row: Tensor, column: Tensor, rows: int) -> Columns:
        """The columns (M,) of each of the rows (M,), of ``rows`` in all; -1 is no column."""
        row, column = row[column >= 0], column[column >= 0]
        starts = torch.zeros(rows + 1, dtype=torch.long)
        starts[1:] = torch.bincount(row, minlength=rows).cumsum(0)
        return cls(starts, column[row.argsort(stable=True)])

    def block(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Rows, counted from ``first``, and columns, of the rows ``first`` to ``last - 1``."""
        starts = self.starts[first : last + 1]
        rows = torch.repeat_interleave(torch.arange(last - first), starts.diff())
        return rows, self.columns[starts[0] : starts[-1]]


class Pool(NamedTuple):
    """What a block of queries may draw from.

    Attributes:
        rows: Which queries.
        scores: (q, N), or None where nothing was scored.
        target: (q,) int64 column of the target.
        mask: (q, N) bool, what may be drawn.
        outside: (q,) bool, rows that the sampler filled from outside its rule; None if it does
            not tell.
    """

    rows: slice
    scores: Tensor | None
    target: Tensor
    mask: Tensor
    outside: Tensor | None


def pools(
    queries: Tensor | None,
    targets: Tensor | None,
    target: Tensor,
    excluded: Columns,
    *,
    candidates: int,
    similarity: Similarity,
    sampler: Any,
    rows: range | None = None,
) -> Iterator[Pool]:
    """Blocks of pools, in order. The target and what is excluded are in none.

    Args:
        queries: (Q, D) or (Q, S, D), or None for everything that is allowed, without scores.
        targets: (N, D) or (N, T, D), on the same device.
        target: (Q,) int64 column of each query's target, on the CPU.
        excluded: Columns that are no negatives.
        candidates: Number of candidates (N).
        similarity: Scores of queries and targets; each depends on its own target alone.
        sampler: A ``cir_plugins.types.Sampler``.
        rows: Which queries; all if left out.
    """
    device = target.device if queries is None else queries.device
    asked = range(len(target)) if rows is None else rows
    step = rows_per_block(candidates, device)
    for first in range(asked.start, asked.stop, step):
        last = min(first + step, asked.stop)
        own = target[first:last].to(device)
        out = torch.zeros(last - first, candidates, dtype=torch.bool, device=device)
        row, column = (part.to(device) for part in excluded.block(first, last))
        out[row, column] = True
        out.scatter_(1, own[:, None], False)  # a sampler sees the target as it is
        outside = scores = None
        if queries is None or targets is None:
            mask = ~out
        else:
            scores = score(queries[first:last], targets, similarity)
            mask, outside = _sample(sampler, scores, own, out)
            mask[row, column] = False
        mask.scatter_(1, own[:, None], False)
        yield Pool(slice(first, last), scores, own, mask, outside)


def _sample(
    sampler: Any, scores: Tensor, target: Tensor, excluded: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Negatives (q, N), and rows (q,) filled from outside the sampler's rule where it tells."""
    mask, outside = torch.empty_like(excluded), torch.zeros_like(target, dtype=torch.bool)
    on_cpu = scores.device.type == "cpu"
    most = max(1, SLICE_CELLS // scores.shape[1]) if on_cpu else len(scores)
    step = -(-len(scores) // -(-len(scores) // most))  # parts of about one size
    for first in range(0, len(scores), step):
        part = slice(first, first + step)
        given = scores[part], target[part], excluded[part]
        if hasattr(sampler, "pools"):
            mask[part], outside[part] = sampler.pools(*given)
            continue
        mask[part] = sampler(*given)
        if hasattr(sampler, "fallback_rows"):
            outside[part] = sampler.fallback_rows(*given)
    tells = hasattr(sampler, "pools") or hasattr(sampler, "fallback_rows")
    return mask, outside if tells else None
