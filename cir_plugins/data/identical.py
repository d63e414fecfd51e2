"""Identical queries with different targets: each target is right for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from cir_plugins.data.split import Query


def targets_across(queries: Sequence[Query]) -> list[tuple[str, ...]]:
    """For each query the targets of others with its reference and raw captions, but its own.

    Crowd-sourced triplets hold them: two annotators were given one reference and said the same of
    two targets. What the query lists as a positive already is there too.
    """
    groups: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for query in queries:
        if query.target is not None:
            groups.setdefault((query.reference, query.captions), {})[query.target] = None
    return [
        tuple(name for name in groups.get((q.reference, q.captions), ()) if name != q.target)
        for q in queries
    ]


def positives_across(queries: Sequence[Query]) -> int:
    """Number of positives that are known only from other triplets, over all queries.

    A triplet with several texts counts once.
    """
    across = zip(queries, targets_across(queries), strict=True)
    return len(
        {
            (query.reference, query.captions, query.target, name)
            for query, names in across
            for name in names
            if name not in query.positives
        }
    )
