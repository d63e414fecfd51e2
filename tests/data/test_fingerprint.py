from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Four images and two queries, whose image files hold their names."""
    names = ("a", "b", "c", "d")
    paths = {name: tmp_path / f"{name}.jpg" for name in names}
    for name, path in paths.items():
        path.write_text(name)
    queries = (
        Query("0", "a", ("is red",), "is red", "b", ("b", "c")),
        Query("1", "c", ("is long",), "is long", "d", ("d",)),
    )
    return Split("dress.train", "train", queries, names, paths)


def fingerprint(*splits: Split) -> DataFingerprint:
    return DataFingerprint.of("fashioniq", splits)


def first(split: Split, **changes: object) -> Split:
    """The split with another first query."""
    return replace(split, queries=(replace(split.queries[0], **changes), *split.queries[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "phrases"),
    [
        (lambda s: replace(s, gallery=s.gallery[::-1]), ["another order of the gallery"]),
        (
            lambda s: replace(s, gallery=s.gallery[:3]),
            ["3 gallery images instead of 4", "other gallery images"],
        ),
        (lambda s: first(s, captions=("is blue",), text="is blue"), ["other captions"]),
        (lambda s: first(s, target="c"), ["other targets"]),
        (lambda s: first(s, positives=("b",)), ["other positives"]),
        (lambda s: first(s, category="dress"), ["other groups or categories"]),
        (
            lambda s: replace(s, queries=s.queries[:1]),
            [
                "1 queries instead of 2",
                "other query ids, references, captions, targets, positives, groups or categories",
            ],
        ),
    ],
)
def test_a_change_is_named(
    split: Split, change: Callable[[Split], Split], phrases: list[str]
) -> None:
    """A resumed run mined by numbers of another gallery, and nobody noticed."""
    before, after = fingerprint(split), fingerprint(change(split))
    assert before.changes(after) == [f"split 'dress.train': {phrase}" for phrase in phrases]
    assert before.short != after.short


def test_another_picture_under_the_same_name_is_named(split: Split) -> None:
    before = fingerprint(split)
    split.paths["d"].write_text("another picture")
    after = fingerprint(split)
    assert before.changes(after) == ["split 'dress.train': other contents of the images"]


def test_a_copy_elsewhere_is_the_same_data(split: Split, tmp_path: Path) -> None:
    """A fingerprint of paths or times would call every copy other data."""
    before = fingerprint(split)
    (tmp_path / "copy").mkdir()
    paths = {name: tmp_path / "copy" / f"{name}.png" for name in split.paths}
    for name, path in paths.items():
        path.write_text(name)
    copied = fingerprint(replace(split, paths=paths))
    assert before.changes(copied) == []
    assert before.short == copied.short


def test_splits_that_come_and_go_are_named(split: Split) -> None:
    other = replace(split, name="shirt.train")
    assert fingerprint(split).changes(fingerprint(other)) == [
        "split 'dress.train' is gone",
        "split 'shirt.train' is new",
    ]
    cirr = DataFingerprint.of("cirr", [split])
    assert fingerprint(split).changes(cirr) == ["data set 'cirr' instead of 'fashioniq'"]


def test_json_gives_the_same_fingerprint(split: Split) -> None:
    before = fingerprint(split)
    text = json.dumps(before.as_json())
    assert DataFingerprint.from_json(json.loads(text), "run.json") == before


@pytest.mark.parametrize("content", [None, [], {}, {"dataset": "a", "splits": [{"name": "a"}]}])
def test_what_is_no_fingerprint_names_the_file(content: object) -> None:
    with pytest.raises(CIRError, match=r"run\.json holds no fingerprint of data"):
        DataFingerprint.from_json(content, "run.json")


def test_a_damaged_field_is_named(split: Split) -> None:
    content = fingerprint(split).as_json()
    content["splits"][0]["images"] = 7
    with pytest.raises(CIRError, match=r"splits\.0\.images is damaged"):
        DataFingerprint.from_json(content, "run.json")


def test_a_lone_surrogate_has_a_fingerprint(split: Split) -> None:
    odd = first(split, captions=("\ud800",), text="\ud800")
    assert fingerprint(split).changes(fingerprint(odd)) == ["split 'dress.train': other captions"]


def test_a_missing_image_names_its_file(split: Split) -> None:
    split.paths["a"].unlink()
    with pytest.raises(CIRError, match=r"image .*a\.jpg cannot be read: No such file"):
        fingerprint(split)
