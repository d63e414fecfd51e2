from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.data.readers.picture_names import PictureNames, unknown_pictures
from tests.layouts import write_picture


@pytest.fixture
def pictures(tmp_path: Path) -> PictureNames:
    for name in ("a/front.jpg", "b/front.jpg", "b/back.PNG", "Été.jpg", "v1.2.jpg", "b.jpg"):
        write_picture(tmp_path / "images" / name)
    return PictureNames.below(tmp_path / "images", "images")


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("a/front.jpg", ["a/front.jpg"]),
        ("./a/front.jpg", ["a/front.jpg"]),
        ("images/a/front.jpg", ["a/front.jpg"]),
        ("a\\front.jpg", ["a/front.jpg"]),
        ("a/front", ["a/front.jpg"]),
        ("front.jpg", ["a/front.jpg", "b/front.jpg"]),
        ("front", ["a/front.jpg", "b/front.jpg"]),
        ("back", ["b/back.PNG"]),
        ("BACK.png", ["b/back.PNG"]),
        ("e\u0301te\u0301", ["Été.jpg"]),
        ("v1.2", ["v1.2.jpg"]),
        ("b", ["b.jpg"]),
        ("c/front.jpg", []),
        ("../images/a/front.jpg", []),
        ("/etc/passwd", []),
        ("", []),
    ],
)
def test_names_of_pictures(pictures: PictureNames, name: str, ids: list[str]) -> None:
    """A name of a folder that is not there is no picture of that name elsewhere."""
    assert list(pictures.ids(name)) == ids


def test_absolute_paths(pictures: PictureNames) -> None:
    assert pictures.ids(str(pictures.folder / "a" / "front.jpg")) == ("a/front.jpg",)


def test_messages_on_unknown_names(pictures: PictureNames) -> None:
    reasons = unknown_pictures(pictures, {"front": ["2", "9"], "bakc.PNG": ["4"], "x": ["5"]})
    assert reasons == [
        ("'front' may be a/front.jpg or b/front.jpg", ["2", "9"]),
        ("no picture 'bakc.PNG' (nearest: b/back.PNG)", ["4"]),
        ("no picture 'x'", ["5"]),
    ]
