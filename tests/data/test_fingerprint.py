from __future__ import annotations

import json
import os
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


def test_other_texts_of_the_same_captions_are_the_same_data(split: Split) -> None:
    """Rows of one table make their own texts: that must not read as rows of different data."""
    both = tuple(
        replace(query, id=f"{query.id}-{order}", text=f"{query.text} {order}")
        for query in split.queries
        for order in (0, 1)
    )
    before, after = fingerprint(split), fingerprint(replace(split, queries=both))
    assert before.short == after.short
    assert before.document == after.document
    edited = fingerprint(first(split, text="IS RED"))
    assert before.changes(edited) == ["split 'dress.train': other texts of the same captions"]
    assert before.short == edited.short


def test_an_image_is_read_once_until_it_changes(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    open_file = Path.open

    def counted(path: Path, *args: object, **options: object) -> object:
        reads.append(path)
        return open_file(path, *args, **options)  # type: ignore[call-overload]

    for path in split.paths.values():
        os.utime(path, ns=(0, 10**18))
    monkeypatch.setattr(Path, "open", counted)
    before = fingerprint(split, replace(split, name="shirt.train"))
    assert len(reads) == 4
    assert fingerprint(split, replace(split, name="shirt.train")) == before
    assert len(reads) == 4
    split.paths["a"].write_text("b")  # the same size
    assert fingerprint(split).changes(before) != []
    assert reads.count(split.paths["a"]) >= 2


def test_a_file_written_just_now_is_read_again(split: Split) -> None:
    """Two writes within one tick of the file system's clock leave the same size and time."""
    before = fingerprint(split)
    stat = split.paths["a"].stat()
    split.paths["a"].write_text("z")
    os.utime(split.paths["a"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert before.changes(fingerprint(split)) == [
        "split 'dress.train': other contents of the images"
    ]


def test_a_role_has_a_fingerprint_of_its_own(split: Split) -> None:
    val = replace(split, name="dress.val", role="val")
    assert fingerprint(split, val).of_role("val") == fingerprint(val)
