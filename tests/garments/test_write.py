from __future__ import annotations

import errno
import hashlib
from itertools import chain
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from cir_plugins.errors import CIRError
from garments_plugin import write, write_garments
from garments_plugin.kinds import ATTRIBUTES, CATEGORIES, KINDS
from tests.garments.conftest import DrawnSet


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_two_workers_write_the_same_bytes_as_one(drawn: DrawnSet, tmp_path: Path) -> None:
    write_garments(tmp_path / "b", images=200, seed=3, size=32, workers=2, progress=False)
    assert digests(tmp_path / "b") == digests(drawn.root)


def test_another_seed_draws_other_images(drawn: DrawnSet, tmp_path: Path) -> None:
    write_garments(tmp_path / "b", images=50, seed=4, size=32, workers=1, progress=False)
    here, there = digests(tmp_path / "b"), digests(drawn.root)
    shared = [name for name in here if name.startswith("images/")]
    assert len(shared) == 50
    assert all(here[name] != there[name] for name in shared)


def test_the_layout_is_fashioniqs(drawn: DrawnSet) -> None:
    names = {str(path.relative_to(drawn.root)) for path in drawn.root.rglob("*.json")}
    expected = {"attributes.json"}
    for category in CATEGORIES:
        for split in ("train", "val"):
            expected |= {
                f"captions/cap.{category}.{split}.json",
                f"image_splits/split.{category}.{split}.json",
                f"meta/kinds.{category}.{split}.json",
            }
    assert names == expected
    for _, ids, triplets, kinds in drawn.galleries():
        assert len(kinds) == len(triplets) > 0
        for triplet in triplets:
            assert list(triplet) == ["target", "candidate", "captions"]
            assert {triplet["target"], triplet["candidate"]} <= set(ids)
            assert len(triplet["captions"]) == 2
            assert triplet["captions"][0] != triplet["captions"][1]


def test_every_image_is_in_one_gallery(drawn: DrawnSet) -> None:
    """And it can be opened."""
    ids = list(chain.from_iterable(entry[1] for entry in drawn.galleries()))
    assert len(ids) == len(set(ids)) == 200
    assert {path.stem for path in (drawn.root / "images").iterdir()} == set(ids)
    assert set(drawn.attributes) == set(ids)
    for name in ids[:20]:
        with Image.open(drawn.root / "images" / f"{name}.jpg") as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (32, 32))


def test_attributes_are_those_that_the_kind_has(drawn: DrawnSet) -> None:
    for values in drawn.attributes.values():
        kind = KINDS[values["garment"]]
        expected = {"garment", "colour", "pattern"}
        expected |= {"sleeve"} if kind.sleeves else set()
        expected |= {"length"} if kind.lengths else set()
        assert set(values) == expected <= set(ATTRIBUTES)


def test_the_summary_counts_what_is_on_disk(drawn: DrawnSet) -> None:
    summary = drawn.summary
    assert summary.out == drawn.root
    assert summary.images == 200
    for split in ("train", "val"):
        mine = [entry for entry in drawn.galleries() if entry[0].endswith(split)]
        assert summary.split_images[split] == sum(len(entry[1]) for entry in mine)
        assert summary.split_triplets[split] == sum(len(entry[2]) for entry in mine)
    assert 45 <= summary.split_images["val"] <= 55


def test_positives_by_brute_force(drawn: DrawnSet) -> None:
    attributes = drawn.attributes
    counts: dict[str, list[int]] = {"train": [], "val": []}
    for name, ids, triplets, _ in drawn.galleries():
        for triplet in triplets:
            target, reference = triplet["target"], triplet["candidate"]
            positives = [i for i in ids if attributes[i] == attributes[target]]
            assert target in positives
            assert reference not in positives
            counts[name.split(".")[1]].append(len(positives))
    for split, matches in counts.items():
        mean = sum(matches) / len(matches)
        assert drawn.summary.mean_positives[split] == pytest.approx(mean, abs=1e-3)


def test_positives_stay_few(tmp_path: Path) -> None:
    """In a set of the default size."""
    for name in ("captions", "image_splits", "meta"):
        (tmp_path / name).mkdir()
    summary = write.write_annotations(tmp_path, tmp_path, images=2000, seed=0, share=0.25)
    assert summary.split_images == {"train": 1500, "val": 500}
    assert all(1.5 <= mean <= 8.0 for mean in summary.mean_positives.values())
    assert summary.split_triplets["train"] > 2800
    assert summary.split_triplets["val"] == 500


def test_the_smallest_set_has_every_category(tmp_path: Path) -> None:
    """In both splits."""
    for name in ("captions", "image_splits", "meta"):
        (tmp_path / name).mkdir()
    write.write_annotations(tmp_path, tmp_path, images=50, seed=0, share=0.01)
    for category in CATEGORIES:
        for split in ("train", "val"):
            file = tmp_path / f"image_splits/split.{category}.{split}.json"
            assert file.read_text().count("DG") >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 49}, "images is 49; accepted: 50 or more"),
        ({"size": 31}, "size is 31; accepted: 32 to 512 pixels"),
        ({"size": 513}, "size is 513; accepted: 32 to 512 pixels"),
        ({"val_share": 0.0}, "val_share is 0.0; accepted: above 0 and below 1"),
        ({"val_share": 1.0}, "val_share is 1.0; accepted: above 0 and below 1"),
        ({"workers": 0}, "workers is 0; accepted: 1 or more"),
        ({"seed": -1}, "seed is -1; accepted: 0 or more"),
    ],
)
def test_bad_options_name_what_is_accepted(
    tmp_path: Path, options: dict[str, float], message: str
) -> None:
    with pytest.raises(CIRError, match=message):
        write_garments(tmp_path / "set", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(CIRError, match="is not empty; accepted: a new or an empty folder"):
        write_garments(tmp_path, images=50)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(CIRError, match="set is a file; accepted: a new or an empty folder"):
        write_garments(tmp_path / "set", images=50)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_garments(tmp_path / "set", images=50, size=32, workers=1, progress=False)
    assert len(list((tmp_path / "set" / "images").iterdir())) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left on .*: no file was written"),
        (errno.EACCES, "cannot write .*set: Permission denied"),
    ],
)
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    written = Path.write_bytes
    calls = []

    def fails(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) > 10:
            raise OSError(number, "Permission denied", str(path))
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(CIRError, match=message):
        write_garments(tmp_path / "set", images=50, size=32, workers=1, progress=False)
    assert len(calls) == 11
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(path: Path, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stops)
    with pytest.raises(KeyboardInterrupt):
        write_garments(tmp_path / "set", images=50, size=32, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """A killed process leaves its unfinished set; one that is being drawn is left alone."""
    for name in ("dead", "alive"):
        (tmp_path / f".set.{name}" / "set" / "images").mkdir(parents=True)
        (tmp_path / f".set.{name}" / ".lock").touch()
    with FileLock(tmp_path / ".set.alive" / ".lock"):
        write_garments(tmp_path / "set", images=50, size=32, workers=1, progress=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".set.alive", "set"]
