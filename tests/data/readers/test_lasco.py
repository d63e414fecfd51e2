from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.icir import ICIR
from cir_plugins.data.readers.lasco import LaSCo
from cir_plugins.errors import CIRError
from tests.layouts import small_lasco, write_json


def test_splits_of_the_default_protocol(tmp_path: Path) -> None:
    train, val = LaSCo()(small_lasco(tmp_path))
    assert (train.role, val.role, val.drop_reference) == ("train", "val", False)
    assert train.gallery == ("21", "22", "23")
    assert val.gallery == ("5", "4", "3", "2", "1")
    query = val.queries[0]
    assert (query.id, query.reference, query.target, query.text) == ("12", "1", "2", "a red bus")
    assert val.paths["5"] == tmp_path / "val2014" / "COCO_val2014_000000000005.jpg"
    assert train.paths["21"] == tmp_path / "train2014" / "COCO_train2014_000000000021.jpg"
    assert LaSCo().notes(tmp_path) == [
        f"{tmp_path / 'lasco_train_corpus.json'} is not there: the gallery is the images of the "
        "triplets"
    ]


def test_files_may_lie_in_the_repository_folders(tmp_path: Path) -> None:
    """``downloads/`` of its repository, and pictures below ``images/``."""
    expected = LaSCo().annotations(small_lasco(tmp_path, pictures=False))
    (tmp_path / "downloads").mkdir()
    for file in tmp_path.glob("*.json"):
        file.rename(tmp_path / "downloads" / file.name)
    assert LaSCo().annotations(tmp_path) == expected


def test_without_a_corpus_the_triplets_make_the_gallery(tmp_path: Path) -> None:
    root = small_lasco(tmp_path)
    (root / "lasco_val_corpus.json").unlink()
    assert LaSCo(splits=("val",))(root)[0].gallery == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": 12}, "entry 1 has the same 'qid' as entry 0: 12"),
        ({"query-image": 3}, "entry 1 has 'query-image' = 3\naccepted: the image's number and its"),
        ({"query-image": [True, "a.jpg"]}, "entry 1 has 'query-image' = "),
        ({"target-image": [1, "b.jpg"]}, "entry 1 has another path for image 1: b.jpg, not val201"),
        ({"target-image": [9, "b.jpg"]}, "val_corpus.json lacks image 9, the target of query 13"),
        ({"query-text": ""}, "entry 1 has 'query-text' = ''"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = small_lasco(tmp_path)
    file = root / "lasco_val.json"
    entries = json.loads(file.read_text())
    entries[1].update(change)
    write_json(file, entries)
    with pytest.raises(CIRError, match=message):
        LaSCo()(root)


def test_another_layout_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="this looks like LaSCo: --data lasco"):
        ICIR()(small_lasco(tmp_path))
