from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.circo import CIRCO
from cir_plugins.errors import CIRError
from tests.layouts import small_circo, write_circo_info, write_json, write_picture
from tests.places import SharedData


def test_splits_of_the_default_protocol(tmp_path: Path) -> None:
    val, test = CIRCO()(small_circo(tmp_path))
    assert (val.name, val.role, test.name, test.role) == ("val", "val", "test", "test")
    assert not val.drop_reference
    assert val.gallery == test.gallery == tuple("123456789")
    assert val.paths["5"] == tmp_path / "images" / "000000000005.jpg"
    assert val.measures[:4] == ("map@5", "map@10", "map@25", "map@50")
    assert val.measures[4:] == ("recall@5", "recall@10", "recall@25", "recall@50")
    assert val.main == ("map@5",)
    first, second = val.queries
    assert (first.id, first.reference, first.target) == ("0", "1", "5")
    assert first.positives == ("5", "3")
    assert first.text == "has two dogs"
    assert second.changed == ("negation", "addition")
    assert (test.queries[1].target, test.queries[1].positives) == (None, ())


def test_the_reference_can_be_dropped(tmp_path: Path) -> None:
    options: dict[str, Any] = dict(CIRCO.protocols["drop_reference"])
    assert all(split.drop_reference for split in CIRCO(**options)(small_circo(tmp_path)))


def test_prefix(tmp_path: Path) -> None:
    val = CIRCO(prefix="a photo of $ that {}")(small_circo(tmp_path))[0]
    assert val.queries[0].text == "a photo of $ that has two dogs"


def test_the_official_list_is_the_gallery(tmp_path: Path) -> None:
    root = small_circo(tmp_path, folder="COCO2017_unlabeled/unlabeled2017")
    assert CIRCO().notes(root)[0].endswith("the gallery is the pictures there are")
    write_circo_info(root, [9, 5, 4, 3, 2, 1])
    val = CIRCO(splits=("val",))(root)[0]
    assert val.gallery == ("9", "5", "4", "3", "2", "1")
    assert CIRCO().notes(root) == []


def test_files_without_a_number_are_left_out(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    write_picture(root / "images" / "thumb.jpg")
    assert CIRCO()(root)[0].gallery == tuple("123456789")


def test_missing_pictures_are_an_error_or_dropped(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    (root / "images" / "000000000003.jpg").unlink()
    with pytest.raises(CIRError, match=r"val: image '3' is missing: .*images/000000000003\.jpg"):
        CIRCO()(root)
    val = CIRCO(missing="drop")(root)[0]
    assert val.queries[0].positives == ("5",)
    assert val.absent == {"positives": 1}
    (root / "images" / "000000000002.jpg").unlink()
    with pytest.raises(CIRError, match=r"query 1 needs image '2', but .*000000000002\.jpg is miss"):
        CIRCO()(root)
    assert [query.id for query in CIRCO(missing="drop")(root)[0].queries] == ["0"]


def test_without_pictures_annotations_make_the_gallery(tmp_path: Path) -> None:
    root = small_circo(tmp_path, pictures=False)
    val = CIRCO().annotations(root)[0]
    assert (val.gallery, val.paths) == (("1", "2", "3", "4", "5"), {})
    assert CIRCO().notes(root)[0].endswith("the gallery is every image of the annotations")
    with pytest.raises(CIRError, match=r"not one picture was found, not even .*000000000001\.jpg"):
        CIRCO()(root)


def test_without_pictures_the_documented_folder_is_named(tmp_path: Path) -> None:
    folder = "COCO2017_unlabeled/unlabeled2017"
    with pytest.raises(CIRError, match=rf"{folder}/000000000001\.jpg\n.*\nlooked for: .*{folder}"):
        CIRCO()(small_circo(tmp_path, pictures=False))


def test_there_is_no_training_split(tmp_path: Path) -> None:
    """``cir train --data circo`` ended in a complaint about pictures."""
    splits: Any = ("train", "val")
    with pytest.raises(CIRError, match="CIRCO has no training split\ntrain on another data set"):
        CIRCO(splits=splits)(small_circo(tmp_path))


@pytest.mark.parametrize("name", ["\u00b2", "\u0661", "00000000000\u0667", "9" * 5000, "", "-7"])
def test_file_names_need_plain_digits(tmp_path: Path, name: str) -> None:
    root = small_circo(tmp_path)
    file = root / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"
    write_json(file, {"images": [{"id": 7, "file_name": f"{name}.jpg"}]})
    with pytest.raises(CIRError, match=r"image 0 has 'file_name' .*\naccepted: the number 0000000"):
        CIRCO()(root)


def test_a_number_with_two_files_is_noted(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    write_picture(root / "COCO2017_unlabeled" / "unlabeled2017" / "5.png")
    notes = CIRCO().notes(root)
    assert "1 image names are ambiguous" in notes[1]
    assert f"'5' is {root / 'images' / '000000000005.jpg'} (this one counts)" in notes[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": -1}, "entry 1 has 'id' = -1"),
        ({"id": 0}, "entry 1 has the same 'id' as entry 0: 0"),
        ({"relative_caption": 3}, "entry 1 has 'relative_caption' = 3"),
        ({"reference_img_id": "2"}, "entry 1 has 'reference_img_id' = '2'\naccepted: a whole"),
        ({"target_img_id": None}, "entry 1 has 'target_img_id' = None"),
        ({"gt_img_ids": []}, r"entry 1 has 'gt_img_ids' = \[\]"),
        ({"gt_img_ids": [4, 4]}, r"entry 1 has 'gt_img_ids' = \[4, 4\]\naccepted: .* different"),
        ({"gt_img_ids": [3]}, "entry 1 .*\naccepted: a list that holds the target, 4"),
        ({"semantic_aspects": "negation"}, "entry 1 has 'semantic_aspects' = 'negation'"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = small_circo(tmp_path)
    file = root / "annotations" / "val.json"
    entries = json.loads(file.read_text())
    entries[1].update(change)
    write_json(file, entries)
    with pytest.raises(CIRError, match=rf"val\.json, {message}"):
        CIRCO()(root)


def test_the_target_comes_first_wherever_it_stands(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    file = root / "annotations" / "val.json"
    entries = json.loads(file.read_text())
    entries[0]["gt_img_ids"] = [3, 5, 7]
    write_json(file, entries)
    assert CIRCO()(root)[0].queries[0].positives == ("5", "3", "7")


def test_malformed_lists_of_images_are_named(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    write_circo_info(root, [1, 2, 3, 4])
    with pytest.raises(CIRError, match=r"2017\.json lacks image 5, a positive of val query 0"):
        CIRCO()(root)
    write_circo_info(root, [1, 2, 3, 4, 5, 1])
    with pytest.raises(CIRError, match="image 5 has the same 'id' as image 0: 1"):
        CIRCO()(root)
    file = root / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"
    write_json(file, {"images": [{"id": 7, "file_name": "000000000008.jpg"}]})
    with pytest.raises(
        CIRError, match=r"image 0 has 'file_name' .*\naccepted: the number 0000000000"
    ):
        CIRCO()(root)
    write_json(file, {"images": [3]})
    with pytest.raises(CIRError, match="has no list of objects 'images'"):
        CIRCO()(root)


def test_an_empty_folder_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"looked for: .*val\.json or .*test\.json"):
        CIRCO()(tmp_path)


def test_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    val, test = CIRCO().annotations(shared_data("circo"))
    assert (len(val.queries), len(test.queries)) == (220, 800)
    counts = [len(query.positives) for query in val.queries]
    assert (min(counts), max(counts), round(sum(counts) / 220, 2)) == (1, 14, 4.16)
    assert all(query.reference not in query.positives for query in val.queries)
    aspects = [name for query in val.queries for name in query.changed]
    assert len(set(aspects)) == 9
    assert (aspects.count("statement_with_conjunction"), aspects.count("negation")) == (164, 21)
