"""What the candidates of a query are scored by while negatives are mined. Imports torch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from cir_plugins.builtin.similarity import unit
from cir_plugins.retrieval.scores import Similarity, rows_per_block, score

ScoredBy = Literal["query", "target", "queries"]


def scores_of(
    scored_by: ScoredBy, queries: Tensor, gallery: Tensor, target: Tensor, similarity: Similarity
) -> Callable[[slice], Tensor]:
    """Function that gives the scores (q, N) of some of the Q queries.

    ``query`` scores the candidates as a search does. ``target`` takes the target image in the
    query's place: a candidate that looks like the target scores high. ``queries`` gives a candidate
    the highest cosine of the query with one of those whose target the candidate is: candidates
    that other queries ask for in the same words and from a like reference score high, whatever the
    model thinks of their images. A candidate that no query has as its target then has -1. In both
    the query's own target has the highest score there is.

    Args:
        scored_by: What scores.
        queries: (Q, D) of unit length.
        gallery: (N, D) or (N, T, D) candidates.
        target: (Q,) int64 column of each query's target.
        similarity: Scores (q, N) of queries and candidates.
    """
    if scored_by == "queries":
        return _AgreementOfQueries(queries, target.to(queries.device), len(gallery))
    asked = _as_queries(gallery)[target.to(gallery.device)] if scored_by == "target" else queries
    return lambda rows: score(asked[rows], gallery, similarity)


class _AgreementOfQueries:
    """Highest cosine (q, N) of some queries with those that have a candidate as their target."""

    def __init__(self, queries: Tensor, target: Tensor, candidates: int) -> None:
        self.queries, self.target, self.candidates = queries.float(), target, candidates

    def __call__(self, rows: slice) -> Tensor:
        some = self.queries[rows]
        highest = some.new_full((len(some), self.candidates), -1.0)
        # Not all pairs of queries at once: there may be many more of them than candidates.
        step = rows_per_block(max(1, len(some)), some.device)
        for first in range(0, len(self.queries), step):
            others = slice(first, first + step)
            cosines = some @ self.queries[others].T
            column = self.target[others].expand(len(some), -1)
            highest.scatter_reduce_(1, column, cosines, "amax")
        # Its own cosine is 1 but for rounding, which must not put another candidate above it.
        target = self.target[rows, None]
        return highest.clamp_(max=1.0).scatter_(1, target, highest.new_ones(len(some), 1))


def _as_queries(gallery: Tensor) -> Tensor:
    """Gallery embeddings as queries (N, D): of several tokens their mean, of unit length."""
    return gallery if gallery.dim() == 2 else unit(gallery.float().mean(dim=1)).to(gallery.dtype)
