from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.audits.variants import variants_of
from cir_plugins.data.captions import Captions, JoinMode
from cir_plugins.data.split import Query, Split

CAPTIONS = (("is gray", "has no belt"), ("darker", "darker"), ("longer",), ("shorter", ""))


def split_of(mode: JoinMode, prefix: str = "{}") -> Split:
    rules = Captions(mode, capitalise=False, prefix=prefix)
    queries = tuple(
        Query(f"{number}.{order}", "a", captions, text, "b", ("b",))
        for number, captions in enumerate(CAPTIONS)
        for order, text in enumerate(rules.texts(captions))
    )
    paths = dict.fromkeys("ab", Path())
    return Split("made.val", "val", queries, ("a", "b"), paths, captions=rules)


def texts(split: Split) -> dict[str, dict[int, str]]:
    return {
        each.name: dict(zip(each.rows, (query.text for query in each.queries), strict=True))
        for each in variants_of(split)
    }


def test_variants_have_the_queries_whose_text_changes() -> None:
    """Equal captions in reverse, one caption alone, and an empty one are no change."""
    assert texts(split_of("and")) == {
        "order": {0: "has no belt and is gray"},
        "all rules": {0: "it is grey and it has got no belt"},
        "subject": {0: "it is gray and it has no belt"},
        "without": {0: "is gray and has got no belt"},
        "spelling": {0: "is grey and has no belt"},
    }


def test_each_text_of_a_triplet_keeps_its_place() -> None:
    changed = texts(split_of("both_orders"))
    assert changed["spelling"] == {0: "is grey and has no belt", 1: "has no belt and is grey"}
    assert changed["order"] == {0: "has no belt and is gray", 1: "is gray and has no belt"}


def test_captions_that_are_queries_of_their_own_have_no_order() -> None:
    changed = texts(split_of("single"))
    assert "order" not in changed
    assert changed["spelling"] == {0: "is grey"}


@pytest.mark.parametrize("prefix", ["a photo of $ that {}"])
def test_captions_after_a_prefix_get_no_subject(prefix: str) -> None:
    changed = texts(split_of("and", prefix))
    assert "subject" not in changed
    assert changed["all rules"] == {0: "a photo of $ that is grey and has got no belt"}
