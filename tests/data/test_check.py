from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from cir_plugins.data.check import check
from cir_plugins.data.readers.circo import CIRCO
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.data.split import Query, Split
from tests.layouts import (
    small_circo,
    small_cirr,
    small_fashioniq,
    triplet,
    write_circo_info,
    write_fashioniq,
    write_picture,
)
from tests.places import SharedData


def test_a_complete_folder_is_fine(tmp_path: Path) -> None:
    report = check(FashionIQ(), small_fashioniq(tmp_path))
    assert report.ok
    assert report.decoded
    assert report.queries() == {"train": 2, "val": 3, "test": 1}
    assert report.lost() == {"train": 0, "val": 0, "test": 0}
    assert report.unusable() == {}
    assert [(s.name, s.queries, s.gallery, s.references, s.missing) for s in report.splits] == [
        ("dress.train", 2, 4, 2, 0),
        ("dress.val", 2, 5, 1, 0),
        ("shirt.val", 1, 2, 1, 0),
        ("dress.test", 1, 2, 1, 0),
    ]


def test_missing_and_broken_pictures_cost_queries(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "d2.png").unlink()
    (root / "images" / "s2.png").write_bytes(b"")
    (root / "images" / "d3.png").write_bytes((root / "images" / "d3.png").read_bytes()[:45])
    report = check(FashionIQ(), root)
    dress, shirt = report.splits[1:3]
    assert (dress.missing, list(dress.broken), dress.lost_targets) == (1, ["d3"], 2)
    assert (shirt.lost_references, shirt.lost) == (1, 1)
    assert not report.ok
    assert (dress.lost, dress.queries) == (2, 2)
    assert dress.missing_images == ("d2",)
    assert "dress.val: missing: d2" in report.errors
    assert (
        "dress.val: 1 images are missing and 1 broken, which costs 2 of 2 queries (100.0%): "
        "0 lack the reference, 2 only the target" in report.errors
    )
    assert any("s2.png is empty (0 bytes)" in error for error in report.errors)
    assert any("d3.png cannot be decoded" in error for error in report.errors)
    assert report.lost()["val"] == report.queries()["val"] == 3
    assert list(report.unusable()) == ["d2", "d3", "s2"]
    assert report.unusable()["d2"] == "missing"


def test_without_decoding_broken_pictures_are_not_seen(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "s2.png").write_bytes(b"")
    report = check(FashionIQ(), root, decode=False)
    assert report.ok
    assert not report.decoded


def test_an_unneeded_training_picture_is_a_note(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "t4.png").unlink()
    report = check(FashionIQ(), root)
    assert report.ok
    assert [note.split(":")[0] for note in report.notes] == ["dress.train"]


def test_long_lists_of_broken_pictures_are_cut(tmp_path: Path) -> None:
    root = small_circo(tmp_path)
    for number in range(10, 24):
        (root / "images" / f"{number:012d}.jpg").write_bytes(b"")
    report = check(CIRCO(splits=("val",)), root)
    assert len(report.splits[0].broken) == 14
    assert report.errors[-1] == "val: 4 more images are broken"
    assert len(report.errors) == 12


def test_the_first_missing_pictures_are_named(tmp_path: Path) -> None:
    root = small_cirr(tmp_path)
    for number in range(1, 8):
        (root / "dev" / f"dev-{number}.png").unlink()
    report = check(CIRR(), root)
    assert "val: missing: dev-1, dev-2, dev-3, dev-4, dev-5, dev-6, dev-7" in report.errors
    root = small_circo(tmp_path / "circo")
    write_circo_info(root, range(1, 30))
    report = check(CIRCO(splits=("val",)), root)
    assert report.errors[1] == "val: missing: 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 10 more"
    assert len(report.unusable()) == 20


def test_without_pictures_the_places_are_named(tmp_path: Path) -> None:
    report = check(FashionIQ(), small_fashioniq(tmp_path, pictures=False))
    (error,) = report.errors
    assert "6 of 6 queries (100.0%) are lost\nlooked for: " in error
    assert f"{tmp_path / 'images'}/**/<image>.(jpg|jpeg|png|webp|bmp|gif|tif|tiff|jfif)" in error


def test_targets_that_the_protocol_removes_are_noted(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    write_fashioniq(root, "shirt.val", [triplet("s1", "s1", "is green")], ["s1", "s2"])
    for removed, consequence in ((False, "keeps it"), (True, "removes it")):
        (note,) = check(FashionIQ(drop_reference=removed), root).notes
        expected = (
            f"shirt.val: queries with their reference as target: 1; the protocol {consequence}"
        )
        assert note.startswith(expected)


def test_queries_without_a_target_are_noted(tmp_path: Path) -> None:
    """Half of a split was blind, and nothing said so before its evaluation."""
    root = small_fashioniq(tmp_path)
    seen = FashionIQ()(root)

    def blind(every: int) -> list[Split]:
        return [
            replace(
                split,
                queries=tuple(
                    replace(query, target=None, positives=()) if n % every == 0 else query
                    for n, query in enumerate(split.queries)
                ),
            )
            for split in seen
            if split.role == "val"
        ]

    whole, half = (check(lambda _, n=n: blind(n), root).notes for n in (1, 2))
    assert len(whole) == len(half) == len(blind(1))
    for split, note, partly in zip(blind(1), whole, half, strict=True):
        count = len(split.queries)
        assert note.startswith(f"{split.name}: blind: none of {count} queries has a target")
        lost = -(-count // 2)
        if lost < count:
            assert partly.startswith(f"{split.name}: queries without a target: {lost} of {count}")


def test_pictures_of_extreme_shape_are_broken(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    Image.new("RGB", (2, 16_002)).save(root / "images" / "d2.png")
    report = check(FashionIQ(), root)
    assert list(report.splits[1].broken) == ["d2"]
    assert any("d2.png has 2 × 16002 pixels accepted: sides of" in e for e in report.errors)


def test_unreadable_annotations_are_an_error_in_the_report(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "captions" / "cap.dress.val.json").write_text('[{"candidate": ')
    report = check(FashionIQ(), root)
    assert not report.ok
    assert report.splits == ()
    assert "cap.dress.val.json is not valid JSON" in report.errors[0]


def test_readers_that_are_plain_functions_are_checked_too(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")

    def read(root: Path) -> list[Split]:
        query = Query("0", "a", ("x",), "x", "b", ("b",))
        return [Split("val", "val", (query,), ("a", "b"), {"a": root / "a.png"})]

    report = check(read, tmp_path)
    assert report.splits[0].lost_targets == 1
    assert check(lambda _: [], tmp_path).errors == [f"no split was found in {tmp_path}"]


def test_worker_processes_find_the_same(tmp_path: Path) -> None:
    """Four hundred pictures are enough for processes of their own."""
    names = tuple(f"{number}.png" for number in range(400))
    for name in names:
        write_picture(tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"not an image")

    def read(root: Path) -> list[Split]:
        query = Query("0", names[0], ("x",), "x", names[1], (names[1],))
        return [Split("val", "val", (query,), names, {name: root / name for name in names})]

    alone = check(read, tmp_path, workers=1)
    assert check(read, tmp_path, workers=2) == alone
    assert list(alone.splits[0].broken) == ["2.png"]


def test_fashioniq_annotations_without_pictures(shared_data: SharedData) -> None:
    report = check(FashionIQ(), shared_data("fashioniq"))
    assert report.queries() == {"train": 18_000, "val": 6_016, "test": 6_118}
    galleries = {split.name: split.gallery for split in report.splits if split.role == "val"}
    assert galleries == {"dress.val": 3_817, "shirt.val": 6_346, "toptee.val": 5_373}
    assert [split.missing for split in report.splits if split.role == "val"] == [3817, 6346, 5373]
    assert len(report.errors) == 1
    assert "not one picture was found" in report.errors[0]
    assert "30,134 of 30,134 queries (100.0%) are lost" in report.errors[0]
    assert report.lost()["val"] == 6_016


def test_cirr_annotations_without_pictures(shared_data: SharedData) -> None:
    report = check(CIRR(), shared_data("cirr"))
    counts = [(s.name, s.queries, s.gallery, s.references, s.missing) for s in report.splits]
    assert counts == [("val", 4181, 2297, 2165, 2297), ("test1", 4148, 2315, 2178, 2315)]
    assert not report.ok
    assert "cap.rc2.train.json is not there" in report.notes[0]


def test_circo_annotations_without_pictures(shared_data: SharedData) -> None:
    report = check(CIRCO(), shared_data("circo"))
    assert [(s.name, s.queries, s.lost) for s in report.splits] == [
        ("val", 220, 220),
        ("test", 800, 800),
    ]
    assert "the gallery is every image of the annotations" in report.notes[0]


def test_real_photographs_are_whole(shared_data: SharedData) -> None:
    report = check(FashionIQ(gallery="merged"), shared_data("photos"), workers=1)
    assert report.ok
    assert report.queries() == {"train": 4560, "val": 1516}


def test_bounds_of_a_recall_without_some_images(tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    (root / "images" / "d3.png").unlink()
    notes = check(FashionIQ(), root).notes
    assert notes == [
        "dress.val: a Recall@k of r over the queries that are left is between 0.500 r and 0.500 r "
        "+ 0.500 over all of them; for the 1 missing gallery images, r below is Recall@(k - 1), 0 "
        "for k up to 1"
    ]
