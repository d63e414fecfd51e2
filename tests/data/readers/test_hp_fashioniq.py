from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.captions import Captions
from cir_plugins.data.readers.hp_fashioniq import read_preferences
from cir_plugins.errors import CIRError
from tests.layouts import small_preferences, write_json
from tests.places import SharedData

RULES = Captions(strip=False)


def test_items_in_order(tmp_path: Path) -> None:
    file = small_preferences(tmp_path)
    data = read_preferences(file, tmp_path, Captions(strip=False, lower=True))
    assert data.sets == (
        (("a", "b"), ("c", "d")),
        (("d", "b"), ("a", "c")),
        (("a", "c"), ("b", "d")),
    )
    assert data.preferred == (1, 2, 1)
    first = data.split.queries[0]
    assert (first.id, first.reference, first.target) == ("user_1.question_set_1.0", "r", "a")
    assert first.text == "is red  and is long"
    assert data.split.gallery == ("a", "b", "c", "d")
    assert set(data.split.paths) == {"a", "b", "c", "d", "q", "r"}


def test_items_without_pictures_are_an_error_or_left_out(tmp_path: Path) -> None:
    file = small_preferences(tmp_path)
    (tmp_path / "images" / "q.png").unlink()
    with pytest.raises(CIRError, match="1 images are missing, such as q, which 1 of 3 items need"):
        read_preferences(file, tmp_path, RULES)
    data = read_preferences(file, tmp_path, RULES, "drop")
    assert (len(data.sets), data.left_out) == (2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferred set": ["1", "3"]}, "item 1: accepted: two sets of one size and '1' or '2'"),
        ({"preferred set": ["1"]}, "its lists have different lengths"),
        ({"sentences": "is red"}, "has 'sentences' = 'is red'\naccepted: a list of one or more st"),
        ({"retrieved_set1": [{}, {}]}, "'retrieved_set1' 0 has no 'img_path'"),
    ],
)
def test_malformed_items_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = small_preferences(tmp_path)
    content = json.loads(file.read_text())
    content["user_1"]["question_set_1"].update(change)
    write_json(file, content)
    with pytest.raises(CIRError, match=message):
        read_preferences(file, tmp_path, RULES)


def test_counts_of_the_official_file(shared_data: SharedData) -> None:
    """3,050 answers, 53.8 % of them for the first set: what a random scorer gets as its ratio."""
    data = read_preferences(shared_data("hp_fashioniq") / "hpfiq.json", None, RULES)
    assert len(data.sets) == len(data.split.queries) == 3050
    assert (data.preferred.count(1), data.preferred.count(2)) == (1641, 1409)
    assert {len(one) for pair in data.sets for one in pair} == {5}
    assert len({query.id for query in data.split.queries}) == 3050
