"""Vectors of a gallery under lasting keys: exact scoring of all of it, or of candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cir_plugins.retrieval.ranking import top_k
from cir_plugins.retrieval.scores import Similarity, rows_per_block, score

Find = Callable[[Tensor, int], Tensor]
"""Vectors (n, D) and a number -> that many keys (n, number) of the nearest entries."""

FEW = 20_000  # allowed rows up to this many are all scored: it is exact, and as fast
_FIRST, _GROWTH, _MOST = 4, 4, 16_384  # candidates per hit at first, then times, up to
# A large gallery is read once for this many queries, where their scores take no more than 256 MB.
_TOGETHER, _CELLS = 64, 64_000_000


@dataclass(frozen=True)
class Gallery:
    """The vectors of an index's pictures; see ``cir_plugins.types.GalleryVectors``.

    Attributes:
        keys: (N,) int64, without repeats.
        vectors: (N, D) or (N, T, D), fp32 on the CPU.
        similarity: Scores (q, n) of queries and images.
        device: Where scores are computed.
    """

    keys: Tensor
    vectors: Tensor
    similarity: Similarity
    device: torch.device

    @cached_property
    def _resident(self) -> Tensor:
        return self.vectors.to(self.device)

    @cached_property
    def _sorted_keys(self) -> tuple[Tensor, Tensor]:
        values, order = self.keys.sort()
        return values, order

    def best(self, queries: Tensor, k: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of every query's ranking; -inf and -1 past its end."""
        values = queries.new_full((len(queries), k), -torch.inf, device="cpu")
        rows = torch.full((len(queries), k), -1)
        if not len(self.keys):
            return values, rows
        count = len(self.keys)
        step = max(rows_per_block(count, self.device), min(_TOGETHER, _CELLS // count))
        barred = None if allowed is None else ~allowed.to(self.device)
        queries = queries.to(self.device)
        for first in range(0, len(queries), step):
            block = slice(first, first + step)
            scores = score(queries[block], self._resident, self.similarity)
            if barred is not None:
                scores.masked_fill_(barred, -torch.inf)
            found, columns = top_k(scores, k)
            values[block, : found.shape[1]] = found.cpu()
            rows[block, : found.shape[1]] = columns.cpu()
        rows[values == -torch.inf] = -1
        return values, rows

    def best_of(
        self, queries: Tensor, k: int, allowed: Tensor | None, find: Find
    ) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of the best candidates, every one of them scored exactly.

        Candidates are asked for until k of them are rows that are allowed; where even ``_MOST``
        hold fewer, that query's ranking is exact.
        """
        among = len(self.keys) if allowed is None else int(allowed.sum())
        if allowed is not None and among <= FEW:
            everything = allowed.nonzero().flatten()
            return _stacked([self._scored(query, everything, k) for query in queries], k)
        needed, entries = min(k, among), self.vectors[:1].numel() // self.vectors.shape[-1]
        number = k * _FIRST * entries
        result: dict[int, tuple[Tensor, Tensor]] = {}
        waiting = list(range(len(queries)))
        while waiting and number <= max(_MOST, k * _FIRST * entries):
            found = self._rows(queries[waiting], number, find)
            for query, rows in zip(tuple(waiting), found, strict=True):
                rows = rows if allowed is None else rows[allowed[rows]]
                if len(rows) >= needed:
                    result[query] = self._scored(queries[query], rows, k)
                    waiting.remove(query)
            number *= _GROWTH
        for query in waiting:
            scores, rows = self.best(queries[query : query + 1], k, allowed)
            result[query] = scores[0], rows[0]
        return _stacked([result[query] for query in range(len(queries))], k)

    def _rows(self, queries: Tensor, number: int, find: Find) -> list[Tensor]:
        """Rows of each query's candidates, ascending; of all its vectors where it has several."""
        several = queries.shape[1] if queries.dim() == 3 else 1
        keys = find(queries.reshape(-1, queries.shape[-1]).float().cpu(), number)
        values, order = self._sorted_keys
        lists = []
        for candidates in keys.reshape(len(queries), several * keys.shape[1]):
            candidates = candidates.unique()
            at = torch.searchsorted(values, candidates).clamp(max=len(values) - 1)
            lists.append(order[at[values[at] == candidates]].sort().values)
        return lists

    def _scored(self, query: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores and rows of the first k of some rows, which are in ascending order."""
        if not len(rows):
            return torch.empty(0), rows
        vectors = self.vectors[rows].to(self.device)
        scores = score(query[None].to(self.device), vectors, self.similarity)
        values, columns = (each[0].cpu() for each in top_k(scores, k))
        return values, rows[columns]


def _stacked(pairs: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Scores and rows (q, k) of lists that may be shorter."""
    values = torch.full((len(pairs), k), -torch.inf)
    rows = torch.full((len(pairs), k), -1)
    for query, (scores, found) in enumerate(pairs):
        values[query, : len(scores)], rows[query, : len(found)] = scores, found
    return values, rows
