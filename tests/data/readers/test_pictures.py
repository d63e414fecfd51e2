from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.data.readers.pictures import (
    PICTURES,
    ambiguity_notes,
    list_pictures,
    pictures_by_name,
    walk_pictures,
)
from tests.layouts import write_picture


def test_pictures_are_found_in_every_folder_below(tmp_path: Path) -> None:
    for name in ("b.png", "x/a.JPG", "x/y/c.webp", "x/b.jpg"):
        write_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert list_pictures(tmp_path) == {
        "a": tmp_path / "x/a.JPG",
        "b": tmp_path / "b.png",
        "c": tmp_path / "x/y/c.webp",
    }
    assert list_pictures(tmp_path / "gone") == {}


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_picture(tmp_path / "far" / "a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "up").symlink_to(tmp_path / "root")
    assert list(walk_pictures(tmp_path / "root")) == [tmp_path / "root/images/a.png"]


def test_a_link_beside_the_pictures_changes_nothing(tmp_path: Path) -> None:
    """A link that sorts first took the pictures' folder away: every picture was missing."""
    write_picture(tmp_path / "images" / "dev" / "a.png")
    before = list(walk_pictures(tmp_path))
    (tmp_path / "backup").symlink_to(tmp_path / "images")
    assert list(walk_pictures(tmp_path)) == before


@pytest.mark.parametrize("ending", [*PICTURES, ".TIF"])
def test_every_ending_is_found(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"")
    assert list_pictures(tmp_path) == {"a": tmp_path / f"a{ending}"}


def test_names_with_several_files_are_noted(tmp_path: Path) -> None:
    for name in ("b.jpg", "b.png", "a.png", "thumbs/a.png", "c.png", "thumbs/d.png"):
        write_picture(tmp_path / name)
    (tmp_path / "e.png").symlink_to(tmp_path / "c.png")
    (tmp_path / "thumbs" / "e.png").symlink_to(tmp_path / "c.png")
    files = pictures_by_name(tmp_path)
    (note,) = ambiguity_notes("abcde", files, "do this")
    first, second = tmp_path / "a.png", tmp_path / "thumbs" / "a.png"
    assert note.startswith("2 image names are ambiguous")
    assert f"'a' is {first} (this one counts) and {second}; to choose, do this" in note
    assert ambiguity_notes("cde", files, "do this") == []
