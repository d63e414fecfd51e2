"""Scores of candidates from queries alone: who asks for the same. Imports torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cir_plugins.mining.relevance import require_columns
from cir_plugins.retrieval.scores import rows_per_block


def agreement_of_queries(
    queries: Tensor, target: Tensor, candidates: int
) -> Callable[[slice], Tensor]:
    """Function of a slice of the queries that gives their scores (q, N), in fp32.

    A candidate scores the highest cosine of the query with one of those whose target it is: what
    near-equal queries ask for scores high, wherever the model ranks it. The query's own target has
    1, the highest score there is; a candidate that is no query's target has -1.

    With a ``TargetRelative`` of ``unit="absolute"``, its ``ambiguous`` marks what queries with a
    cosine above 1 - ``lower`` ask for: candidates that may be right though nobody marked them.

    Args:
        queries: (Q, D) of unit length.
        target: (Q,) int64 column of each query's target, -1 for none.
        candidates: Number of candidates (N).

    Raises:
        ValueError: If the shapes do not fit, or a target is no column.

    Source: our own; how well it finds unmarked positives is in ``benchmarks/results/dqe``.
    """
    if queries.dim() != 2 or target.shape != queries.shape[:1] or target.is_floating_point():
        raise ValueError(
            f"expected queries (Q, D) and targets (Q,) of int, found {tuple(queries.shape)} and "
            f"{tuple(target.shape)} of {target.dtype}"
        )
    require_columns("target", target, candidates)
    return _Agreement(queries.float(), target.to(queries.device).long(), candidates)


class _Agreement:
    def __init__(self, queries: Tensor, target: Tensor, candidates: int) -> None:
        self.queries, self.target, self.candidates = queries, target, candidates
        self.asking = (target >= 0).nonzero()[:, 0]

    def __call__(self, rows: slice) -> Tensor:
        some = self.queries[rows]
        highest = some.new_full((len(some), self.candidates), -1.0)
        # Not all pairs of queries at once: there may be many more of them than candidates.
        step = rows_per_block(max(1, len(some)), some.device)
        for others in torch.split(self.asking, step):
            column = self.target[others].expand(len(some), -1)
            highest.scatter_reduce_(1, column, some @ self.queries[others].T, "amax")
        highest.clamp_(max=1.0)
        # Its own cosine is 1 but for rounding, which must not put another candidate above it.
        own = self.target[rows]
        row = (own >= 0).nonzero()[:, 0]
        highest[row, own[row]] = 1.0
        return highest
