from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cir_plugins.data.readers.missing import absence, image_ids, settle, settle_all
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError


def split(paths: str, role: str = "val") -> Split:
    """Queries a -> b, a -> c, d -> b (also right: e) over the gallery a to e."""
    queries = (
        Query("0", "a", ("x",), "x", "b", ("b",)),
        Query("1", "a", ("x",), "x", "c", ("c",), group=("c", "e")),
        Query("2", "d", ("x",), "x", "b", ("b", "e")),
    )
    files = {name: Path(name) for name in paths}
    return Split("s", role, queries, tuple("abcde"), files)  # type: ignore[arg-type]


def test_absence_counts_each_lost_query_once() -> None:
    lack = absence(split("abcde"), dict.fromkeys("bd"))
    assert (lack.references, lack.targets, lack.lost) == (2, 0, 2)
    assert lack.images == ("a", "c", "e")
    assert lack.first is not None
    assert (lack.first[0].id, lack.first[1]) == ("0", "a")
    lack = absence(split("abcde"), dict.fromkeys("ade"))
    assert (lack.references, lack.targets) == (0, 3)


def test_images_of_queries_outside_the_gallery_count() -> None:
    queries = (Query("0", "r", ("x",), "x", "a", ("a", "z"), group=("g",)),)
    assert image_ids(Split("s", "val", queries, ("a",), {})) == ["a", "r", "z", "g"]


def test_a_complete_split_is_left_alone() -> None:
    whole = split("abcde")
    assert settle(whole, "error", str) is whole
    assert settle(whole, "drop", str) is whole


def test_positives_and_groups_lose_missing_images() -> None:
    dropped = settle(split("abcd"), "drop", str)
    assert [query.id for query in dropped.queries] == ["0", "1", "2"]
    assert dropped.queries[1].group == ("c",)
    assert dropped.queries[2].positives == ("b",)
    assert dropped.gallery == tuple("abcd")
    assert dropped.absent == {"gallery images": 1, "positives": 1, "group images": 1}


def test_errors_name_the_first_image_and_the_total() -> None:
    message = r"s: query 1 needs image 'c', but c\.png is missing\n1 images are missing, 1 of 3 q"
    with pytest.raises(CIRError, match=message):
        settle(split("abde"), "error", lambda name: f"{name}.png")
    with pytest.raises(CIRError, match="s: image 'e' is missing: e\n1 images of the gallery"):
        settle(split("abcd"), "error", str)


def test_splits_without_queries_are_left_out() -> None:
    empty, whole = split(""), split("abcde")
    assert settle_all([whole], "drop", str) == [whole]
    lacking = replace(whole, absent={"whole splits": 1})
    assert settle_all([empty, whole, whole], "drop", str) == [lacking, whole]
    train = split("abcde", "train")
    assert settle_all([empty, train], "drop", str) == [train]
    with pytest.raises(CIRError, match="s: no query is left, as no picture was found, such as a\n"):
        settle_all([empty, empty], "drop", str)
