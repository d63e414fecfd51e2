"""Expected measures of a random ranking, the first line of every table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cir_plugins.data.split import Query, Split
from cir_plugins.retrieval.metrics import parse_measure, random_recall


def random_ranking(splits: Sequence[Split]) -> dict[str, float]:
    """Expected value of each measure under a random ranking, averaged as a report averages.

    Measures that not all splits have are left out.
    """
    common = [
        name for name in splits[0].measures if all(name in split.measures for split in splits)
    ]
    expectations = [_expectations(split, common) for split in splits]
    return {
        name: sum(values[name] for values in expectations) / len(expectations) for name in common
    }


def random_average_precision(k: int, n: int, positives: int, known: int = 0) -> float:
    """Expected average precision of the first k of a random ranking of n images.

    Position i holds a positive with probability positives/n, and each of the i-1 positions before
    it then with probability (positives-1)/(n-1). The precision there is 1/i times the expected
    number of positives so far.

    Args:
        k: Cut-off.
        n: Images ranked.
        positives: Positives among them.
        known: Positives of the query, in the ranking or not; 0 for ``positives``.
    """
    if not 1 <= positives <= n or k < 1:
        raise ValueError(f"need 1 <= positives <= n and k >= 1, got {positives=}, {n=}, {k=}")
    before = (positives - 1) / (n - 1) if n > 1 else 0.0
    total = sum((1 + (i - 1) * before) / i for i in range(1, min(k, n) + 1)) * positives / n
    return total / min(known or positives, k)


def _expectations(split: Split, names: Iterable[str]) -> Mapping[str, float]:
    gallery = frozenset(split.gallery)
    # Queries with the same numbers of images, positives and members share one value.
    kinds: dict[tuple[int, int, int, int], int] = {}
    for query in split.queries:
        kind = _kind(query, split, gallery)
        kinds[kind] = kinds.get(kind, 0) + 1
    return {
        name: sum(_expected(name, *kind) * count for kind, count in kinds.items())
        / len(split.queries)
        for name in names
    }


def _kind(query: Query, split: Split, gallery: frozenset[str]) -> tuple[int, int, int, int]:
    """Images ranked, positives among them, positives known, members of the subset."""
    positives = set(query.positives) | ({query.target} if query.target else set())
    unranked = {query.reference} & gallery if split.drop_reference else set()
    ranked = len(gallery) - len(unranked)
    return ranked, len((positives & gallery) - unranked), max(1, len(positives)), len(query.group)


def _expected(name: str, ranked: int, positives: int, known: int, group: int) -> float:
    kind, k = parse_measure(name)
    if kind == "subset_recall":
        return random_recall(k, group) if group else 0.0
    if not positives:
        return 0.0
    if kind == "map":
        return random_average_precision(k, ranked, positives, known)
    return random_recall(k, ranked, positives if kind == "any_recall" else 1)
