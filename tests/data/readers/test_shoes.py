from __future__ import annotations

import json
from pathlib import Path

import pytest

from cir_plugins.data.readers.shoes import Shoes
from cir_plugins.errors import CIRError
from tests.layouts import small_shoes, write_json, write_lines
from tests.places import SharedData


def test_splits_of_the_default_protocol(tmp_path: Path) -> None:
    train, val = Shoes()(small_shoes(tmp_path))
    assert (train.name, train.role, val.name, val.role) == ("train", "train", "val", "val")
    assert (train.drop_reference, val.drop_reference) == (True, True)
    assert [(q.reference, q.target) for q in train.queries] == [
        ("img_t1", "img_t2"),
        ("img_t2", "img_t3"),
    ]
    assert val.gallery == ("img_e1", "img_e2", "img_e3", "img_x1")
    assert [query.id for query in val.queries] == ["2", "3", "4"]
    assert val.queries[2].reference == "img_x1"
    assert val.measures == ("recall@1", "recall@10", "recall@50") == val.main
    assert val.paths["img_e1"] == tmp_path / "womens_boots" / "0" / "img_e1.jpg"
    assert train.queries[0].text == "is red."


def test_presets(tmp_path: Path) -> None:
    root = small_shoes(tmp_path)
    listed = Shoes(listed_only=True, splits=("val",))(root)[0]
    assert (listed.gallery, len(listed.queries)) == (("img_e1", "img_e2", "img_e3"), 2)
    assert Shoes(symbols="words")(root)[0].queries[0].text == "is reddotmark"


def test_triplets_of_two_lists_are_left_out(tmp_path: Path) -> None:
    """One with a training image must not be evaluated on, nor trained on with one of the others."""
    root = small_shoes(tmp_path)
    file = root / "relative_captions_shoes.json"
    entries = json.loads(file.read_text())
    mixed = {"ReferenceImageName": "img_t1.jpg", "ImageName": "img_e1.jpg", "RelativeCaption": "x"}
    unlisted = {**mixed, "ImageName": "img_x1.jpg"}
    write_json(file, [*entries, mixed, unlisted])
    assert [len(split.queries) for split in Shoes()(root)] == [2, 3]
    assert Shoes().notes(root)[0].startswith("2 of 7 triplets are left out")


def test_malformed_files_are_named(tmp_path: Path) -> None:
    root = small_shoes(tmp_path)
    write_lines(root / "eval_im_names.txt", "img_e1.jpg", "img_e1.png")
    with pytest.raises(CIRError, match=r"eval_im_names\.txt, line 2: 'img_e1' .* as in line 1"):
        Shoes()(root)
    write_lines(root / "eval_im_names.txt", "img_e1.jpg", "img_t1.jpg")
    with pytest.raises(CIRError, match="shares image 'img_t1' with the other list"):
        Shoes()(root)
    (root / "eval_im_names.txt").unlink()
    with pytest.raises(CIRError, match=r"eval_im_names\.txt does not exist"):
        Shoes()(root)
    with pytest.raises(
        CIRError, match=r"nothing to read in .*\nlooked for: .*captions_shoes\.json"
    ):
        Shoes()(tmp_path / "womens_boots")


def test_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    """8,990 and 1,761 triplets, as papers that evaluate on Shoes print them."""
    root = shared_data("shoes")
    train, val = Shoes().annotations(root)
    assert (len(train.queries), len(train.gallery)) == (8990, 10000)
    assert (len(val.queries), len(val.gallery)) == (1761, 4642)
    listed = Shoes(listed_only=True).annotations(root)[1]
    assert (len(listed.queries), len(listed.gallery)) == (1732, 4621)
    assert sum(query.reference == query.target for query in train.queries) == 26
    assert Shoes().notes(root) == []
