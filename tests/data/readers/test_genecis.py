from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.genecis import GeneCIS
from cir_plugins.errors import CIRError
from tests.layouts import small_genecis, write_json, write_picture
from tests.places import SharedData


def test_one_split_per_task(tmp_path: Path) -> None:
    focus, change = GeneCIS()(small_genecis(tmp_path))
    assert (focus.name, change.name, focus.role) == ("focus_object", "change_object", "val")
    first = change.queries[0]
    assert (first.reference, first.target, first.text) == ("1", "5", "sky")
    assert first.group == ("5", "3", "4")
    assert change.gallery == ("3", "4", "5", "6")
    assert change.paths["1"] == tmp_path / "val2017" / "000000000001.jpg"
    assert change.measures == ("subset_recall@1", "subset_recall@2", "subset_recall@3")
    assert change.main == ("subset_recall@1",)
    assert [split.name for split in GeneCIS(tasks=("change_object",))(tmp_path)] == [
        "change_object"
    ]


def test_pictures_with_a_prefix_are_found(tmp_path: Path) -> None:
    root = small_genecis(tmp_path, pictures=False)
    for number in range(1, 7):
        write_picture(root / "coco" / f"COCO_val2014_{number:012d}.jpg")
    assert GeneCIS()(root)[0].paths["4"].name == "COCO_val2014_000000000004.jpg"


def test_attribute_tasks_are_noted(tmp_path: Path) -> None:
    root = small_genecis(tmp_path)
    write_json(root / "focus_attribute.json", [])
    assert "focus_attribute.json is not read: its task crops" in GeneCIS().notes(root)[0]


def test_there_is_no_training_split(tmp_path: Path) -> None:
    splits: Any = ("train", "val")
    with pytest.raises(CIRError, match="GeneCIS has no training split\ntrain on another data set"):
        GeneCIS(splits=splits)(small_genecis(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"condition": ""}, "entry 1 has 'condition' = ''"),
        ({"reference": 3}, "entry 1 has 'reference' = 3\naccepted: an object"),
        ({"target": {}}, "entry 1, 'target' has no 'val_image_id'"),
        ({"gallery": []}, "entry 1 has 'gallery' = .*\naccepted: a list of one or more objects"),
        ({"gallery": [{"val_image_id": 2}]}, "accepted: images without the reference"),
        ({"target": {"val_image_id": 2}}, "accepted: images without the reference"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = small_genecis(tmp_path)
    file = root / "change_object.json"
    entries = json.loads(file.read_text())
    entries[1].update(change)
    write_json(file, entries)
    with pytest.raises(CIRError, match=message):
        GeneCIS()(root)


def test_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    """1,960 queries for each object task with galleries of 15, as in the paper's table 1."""
    focus, change = GeneCIS().annotations(shared_data("genecis"))
    sizes = [Counter(len(query.group) for query in split.queries) for split in (focus, change)]
    # One query of change_object has its target in its gallery a second time.
    assert sizes == [{15: 1960}, {15: 1959, 14: 1}]
