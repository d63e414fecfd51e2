from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cir_plugins.bench.random_ranking import random_average_precision, random_ranking
from cir_plugins.data.split import Query, Split
from cir_plugins.retrieval.metrics import random_recall


def plain(k: int, n: int, positives: int) -> float:
    """Mean average precision over all rankings of n images."""
    total, rankings = 0.0, list(itertools.permutations(range(n)))
    for ranking in rankings:
        hits, value = 0, 0.0
        for place, image in enumerate(ranking[:k], 1):
            if image < positives:
                hits += 1
                value += hits / place
        total += value / min(positives, k)
    return total / len(rankings)


@pytest.mark.parametrize(("k", "n", "positives"), [(1, 4, 1), (3, 5, 2), (2, 6, 4), (9, 5, 3)])
def test_average_precision_is_that_of_all_rankings(k: int, n: int, positives: int) -> None:
    assert random_average_precision(k, n, positives) == pytest.approx(plain(k, n, positives))


def test_average_precision_by_hand() -> None:
    # One positive of two images: at the first rank in half of the rankings (1), else second (1/2).
    assert random_average_precision(2, 2, 1) == pytest.approx(0.75)
    # With two positives known of which one can be found, the value is halved.
    assert random_average_precision(2, 2, 1, known=2) == pytest.approx(0.375)
    assert random_average_precision(1, 1, 1) == 1.0
    with pytest.raises(ValueError, match="1 <= positives <= n"):
        random_average_precision(1, 3, 4)


def split(name: str, queries: tuple[Query, ...], *, drop: bool, measures: tuple[str, ...]) -> Split:
    gallery = tuple("abcde")
    paths = {image: Path(image) for image in gallery}
    return Split(name, "val", queries, gallery, paths, drop, measures, measures[:1])


def test_ranking_counts_positives_without_the_reference() -> None:
    one = Query("0", "a", ("",), "", target="b", positives=("b", "c"))
    other = Query("1", "x", ("",), "", target="d", positives=("d",))
    measures = ("recall@1", "any_recall@2", "map@2")
    values = random_ranking([split("s", (one, other), drop=True, measures=measures)])
    # Query 0 ranks 4 images (its reference leaves), query 1 five (its reference is not there).
    assert values["recall@1"] == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert values["any_recall@2"] == pytest.approx(
        (random_recall(2, 4, 2) + random_recall(2, 5, 1)) / 2
    )
    assert values["map@2"] == pytest.approx((plain(2, 4, 2) + plain(2, 5, 1)) / 2)


def test_ranking_averages_splits_over_common_measures() -> None:
    query = Query("0", "a", ("",), "", target="b", positives=("b",), group=("b", "c", "d"))
    first = split("s", (query,), drop=False, measures=("recall@1", "subset_recall@1"))
    second = split("t", (query,), drop=True, measures=("subset_recall@1",))
    assert random_ranking([first, second]) == {"subset_recall@1": pytest.approx(1 / 3)}
    assert random_ranking([first])["recall@1"] == pytest.approx(1 / 5)
