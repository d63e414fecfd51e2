"""How far missing images can move a recall."""

from __future__ import annotations

from typing import NamedTuple


class Bounds(NamedTuple):
    """The lowest and the highest value that a recall can have with all images, fractions."""

    low: float
    high: float


def recall_bounds(recall: float, closer: float, queries: int, lost: int) -> Bounds:
    """The values that Recall@k over all queries can have, from that over those that are left.

    A lost query may be a hit or not. Each of m missing gallery images may push a target down by
    one rank, so that a hit is certain only where the target is among the first k - m.

    Args:
        recall: Recall@k over the queries that are left, a fraction.
        closer: Recall@(k - m) over them: 0 for k <= m, ``recall`` for m = 0.
        queries: All queries, the lost ones too.
        lost: Queries without their reference or target.

    Example: 80 of 100 queries are left, Recall@10 is 0.5, Recall@7 is 0.4 and 3 gallery images are
    missing: between 0.4 * 80 / 100 = 0.32 and (0.5 * 80 + 20) / 100 = 0.6.
    """
    if not 0 <= lost <= queries or not 0 <= closer <= recall <= 1:
        raise ValueError(f"need 0 <= lost <= queries and 0 <= closer <= recall <= 1, got {lost=}")
    if not queries:
        return Bounds(0.0, 1.0)
    left = queries - lost
    return Bounds(closer * left / queries, (recall * left + lost) / queries)


def bounds_in_words(queries: int, lost: int, missing: int) -> str:
    """What the recalls of a split with lost queries and ``missing`` gallery images say of all."""
    left = 1 - lost / queries if queries else 0.0
    text = (
        f"a Recall@k of r over the queries that are left is between {left:.3f} r and "
        f"{left:.3f} r + {1 - left:.3f} over all of them"
    )
    if not missing:
        return text
    return (
        f"{text}; for the {missing:,} missing gallery images, r below is Recall@(k - {missing:,}), "
        f"0 for k up to {missing:,}"
    )
