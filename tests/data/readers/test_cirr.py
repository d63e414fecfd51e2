from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.config.resolve import make_plan
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.build import read_splits
from tests.layouts import cirr_entry, small_cirr, write_json, write_picture
from tests.places import SharedData

TABLES: dict[str, Any] = {"method": {"name": "image_only"}, "backbone": {"name": "tiny_clip"}}
MEMBERS = [f"dev-{number}" for number in range(6)]


def write_val(root: Path, *entries: dict[str, Any]) -> Path:
    write_json(root / "captions" / "cap.rc2.val.json", list(entries))
    files = {name: f"./dev/{name}.png" for name in MEMBERS}
    write_json(root / "image_splits" / "split.rc2.val.json", files)
    for name in MEMBERS:
        write_picture(root / "dev" / f"{name}.png")
    return root


def test_splits_of_the_default_protocol(tmp_path: Path) -> None:
    val, test = CIRR()(small_cirr(tmp_path))
    assert (val.name, val.role, test.name, test.role) == ("val", "val", "test1", "test")
    assert val.drop_reference
    assert val.gallery == tuple(f"dev-{number}" for number in range(8))
    assert val.measures[:4] == ("recall@1", "recall@5", "recall@10", "recall@50")
    assert val.measures[4:] == ("subset_recall@1", "subset_recall@2", "subset_recall@3")
    assert val.main == ("recall@5", "subset_recall@1")
    first, second = val.queries
    assert (first.id, first.reference, first.target) == ("40", "dev-0", "dev-1")
    assert first.positives == ("dev-1",)
    assert first.text == "Make it, blue."
    assert second.group == ("dev-0", "dev-1", "dev-3", "dev-4", "dev-5")
    assert (test.queries[0].target, test.queries[0].positives) == (None, ())


def test_the_test_split_is_found_by_its_role(tmp_path: Path) -> None:
    """``cir eval RUN --split test`` looked for ``cap.rc2.test.json``, which no release has."""
    root = small_cirr(tmp_path)
    plan = make_plan(Registry.load(), TABLES, {"data": {"name": "cirr", "root": str(root)}})
    assert [split.name for split in read_splits(plan, ("test",))] == ["test1"]
    assert [split.name for split in read_splits(plan, ("val", "test"))] == ["val", "test1"]
    (root / "captions" / "cap.rc2.test1.json").unlink()
    with pytest.raises(CIRError, match=r"looked for: .*captions/cap\.rc2\.test1\.json"):
        read_splits(plan, ("test",))


@pytest.mark.parametrize("folder", ["", "images", "img_raw"])
def test_pictures_are_found_below_each_known_folder(tmp_path: Path, folder: str) -> None:
    val = CIRR(splits=("val",))(small_cirr(tmp_path, folder=folder))[0]
    assert val.paths["dev-3"] == tmp_path / folder / "dev" / "dev-3.png"


def test_annotations_may_lie_in_a_subfolder(tmp_path: Path) -> None:
    """As CLIP4Cir's README has it: ``cirr/captions`` beside ``train``, ``dev`` and ``test1``."""
    expected = CIRR()(small_cirr(tmp_path))
    (tmp_path / "cirr").mkdir()
    for name in ("captions", "image_splits"):
        (tmp_path / name).rename(tmp_path / "cirr" / name)
    assert CIRR()(tmp_path) == expected
    assert CIRR().notes(tmp_path)[0].startswith(str(tmp_path / "cirr" / "captions"))


def test_a_picture_elsewhere_is_found_by_its_name(tmp_path: Path) -> None:
    """NLVR2's flat folders, and pictures that somebody has saved as JPEG."""
    root = small_cirr(tmp_path)
    (root / "dev" / "dev-3.png").rename(root / "dev-3.png")
    (root / "dev" / "dev-4.png").unlink()
    write_picture(root / "dev" / "dev-4.jpg")
    val = CIRR(splits=("val",))(root)[0]
    assert val.paths["dev-3"] == root / "dev-3.png"
    assert val.paths["dev-4"] == root / "dev" / "dev-4.jpg"
    assert not any("ambiguous" in note for note in CIRR().notes(root))
    write_picture(root / "old" / "dev-4.jpg")
    (note,) = (note for note in CIRR().notes(root) if "ambiguous" in note)
    assert f"'dev-4' is {root / 'dev' / 'dev-4.jpg'} (this one counts)" in note


@pytest.mark.parametrize("linked", [False, True])
def test_a_copy_beside_the_pictures_changes_nothing(tmp_path: Path, linked: bool) -> None:
    root = small_cirr(tmp_path, folder="images")
    expected, notes = CIRR()(root), CIRR().notes(root)
    if linked:
        (root / "backup").symlink_to(root / "images")
    else:
        shutil.copytree(root / "images", root / "backup")
    assert CIRR()(root) == expected
    assert CIRR().notes(root) == notes


def test_the_places_that_were_tried_are_listed(tmp_path: Path) -> None:
    root = small_cirr(tmp_path, pictures=False)
    with pytest.raises(CIRError, match=r"looked for: the paths of image_splits in .*img_raw; "):
        CIRR()(root)


def test_the_split_file_is_the_gallery(tmp_path: Path) -> None:
    root = small_cirr(tmp_path)
    write_picture(root / "dev" / "dev-99.png")
    assert len(CIRR()(root)[0].gallery) == 8


def test_training_captions_make_a_training_split(tmp_path: Path) -> None:
    root = small_cirr(tmp_path)
    assert CIRR().notes(root) == [
        f"{root / 'captions' / 'cap.rc2.train.json'} is not there: its split is left out"
    ]
    names = [f"train-{number}" for number in range(7)]
    entry = cirr_entry(1, names[0], names[1], names[:6], "a")
    write_json(root / "captions" / "cap.rc2.train.json", [entry])
    files = {name: f"./train/34/{name}.png" for name in names}
    write_json(root / "image_splits" / "split.rc2.train.json", files)
    for name in names:
        write_picture(root / "train" / "34" / f"{name}.png")
    train = CIRR()(root)[0]
    assert (train.name, train.role, len(train.gallery)) == ("train", "train", 7)
    assert CIRR().notes(root) == []


def test_text_switches(tmp_path: Path) -> None:
    reader = CIRR(lower=True, symbols="blank", max_words=2, prefix="photo {}")
    assert reader(small_cirr(tmp_path))[0].queries[0].text == "photo make"


def test_a_missing_picture_is_an_error_or_dropped(tmp_path: Path) -> None:
    root = small_cirr(tmp_path)
    (root / "dev" / "dev-1.png").unlink()
    message = r"val: query 40 needs image 'dev-1', but .*dev/dev-1\.png is missing\n1 images are"
    with pytest.raises(CIRError, match=message):
        CIRR()(root)
    val = CIRR(missing="drop")(root)[0]
    assert [query.id for query in val.queries] == ["41"]
    assert val.queries[0].group == ("dev-0", "dev-3", "dev-4", "dev-5")
    assert val.absent == {"queries": 1, "gallery images": 1, "group images": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairid": "40"}, "entry 0 has 'pairid' = '40'\naccepted: a whole number"),
        ({"caption": ""}, "entry 0 has 'caption' = ''\naccepted: a string"),
        ({"reference": None}, "entry 0 has 'reference' = None"),
        ({"target_hard": 4}, "entry 0 has 'target_hard' = 4"),
        ({"img_set": []}, r"entry 0 has 'img_set' = \[\]\naccepted: an object"),
        ({"img_set": {"id": 3}}, "entry 0, 'img_set' has no 'members'"),
        ({"img_set": {"members": [*MEMBERS, "dev-1"]}}, "entry 0: 'members' has an image twice"),
        ({"img_set": {"members": MEMBERS[1:]}}, "entry 0: 'dev-0' is not among its 'members'"),
        ({"img_set": {"members": MEMBERS[:1]}}, "entry 0: 'dev-1' is not among its 'members'"),
        (
            {"img_set": {"members": [*MEMBERS, "dev-9"]}},
            "entry 0: 'dev-9' is not in its image_splits file",
        ),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    entry = cirr_entry(40, "dev-0", "dev-1", MEMBERS, "a")
    write_val(tmp_path, {**entry, **change})
    with pytest.raises(CIRError, match=rf"cap\.rc2\.val\.json, {message}"):
        CIRR()(tmp_path)


def test_a_pairid_twice_is_named(tmp_path: Path) -> None:
    entry = cirr_entry(40, "dev-0", "dev-1", MEMBERS, "a")
    write_val(tmp_path, entry, entry)
    with pytest.raises(CIRError, match="entry 1 has the same 'pairid' as entry 0: 40"):
        CIRR()(tmp_path)


@pytest.mark.parametrize("place", [3, "", "/etc/a.png", "./dev/../../a.png"])
def test_paths_must_stay_below_the_data_folder(tmp_path: Path, place: object) -> None:
    root = small_cirr(tmp_path)
    write_json(root / "image_splits" / "split.rc2.val.json", {"dev-0": place})
    with pytest.raises(CIRError, match=r"split\.rc2\.val\.json, image 'dev-0' has .*\naccepted: a"):
        CIRR()(root)


def test_an_empty_folder_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"looked for: .*cap\.rc2\.train\|val\|test1\.json"):
        CIRR()(tmp_path)


def test_counts_of_the_official_annotations(shared_data: SharedData) -> None:
    val, test = CIRR().annotations(shared_data("cirr"))
    assert (len(val.queries), len(val.gallery)) == (4181, 2297)
    assert (len(test.queries), len(test.gallery)) == (4148, 2315)
    assert len({query.reference for query in val.queries}) == 2165
    assert len({query.target for query in val.queries}) == 2206
    assert len({query.reference for query in test.queries}) == 2178
    for query in (*val.queries, *test.queries):
        assert len(query.group) == 5
        assert query.reference not in query.group
    assert all(query.target in query.group for query in val.queries)
