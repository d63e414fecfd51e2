"""What the candidates of a query are scored by while negatives are mined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from cir_plugins.mining.agreement import agreement_of_queries
from cir_plugins.retrieval.scores import Similarity, one_vector, score

ScoredBy = Literal["query", "target", "queries"]


def scores_of(
    scored_by: ScoredBy, queries: Tensor, gallery: Tensor, target: Tensor, similarity: Similarity
) -> Callable[[slice], Tensor]:
    """Function that gives the scores (q, N) of some of the Q queries.

    ``query`` scores the candidates as a search does. ``target`` takes the target image in the
    query's place: a candidate that looks like the target scores high. ``queries`` is
    ``agreement_of_queries``: a candidate that near-equal queries ask for scores high. In the last
    two the query's own target has the highest score.

    Args:
        scored_by: What scores.
        queries: (Q, D) of unit length, or (Q, S, D) of several vectors.
        gallery: (N, D) or (N, T, D) candidates.
        target: (Q,) int64 column of each query's target.
        similarity: Scores (q, N) of queries and candidates.
    """
    if scored_by == "queries":
        return agreement_of_queries(one_vector(queries), target, len(gallery))
    asked = one_vector(gallery)[target.to(gallery.device)] if scored_by == "target" else queries
    return lambda rows: score(asked[rows], gallery, similarity)
