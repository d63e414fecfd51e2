"""``cir index`` and ``cir search``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cir_plugins
from tests.command import Call
from tests.search.shop import draw_pictures

TINY = ("--set", "backbone=tiny_clip")


@pytest.fixture
def shop(tmp_path: Path, one_thread: None) -> Path:
    names = draw_pictures(tmp_path / "images", 6)
    lines = [f"{name},{position},{'xy'[position % 2]}" for position, name in enumerate(names)]
    (tmp_path / "table.csv").write_text("image,price,brand\n" + "\n".join(lines) + "\n")
    (tmp_path / "images" / "broken.png").write_bytes(b"nothing")
    return tmp_path


def test_index_and_search(cir: Call, shop: Path) -> None:
    made = cir(
        *("index", "image_text_sum", *TINY, "--images", shop / "images", "--out", shop / "index"),
        *("--metadata", shop / "table.csv"),
    )
    assert made.code == 0, made.err
    assert "6 pictures: 6 new, 0 changed, 0 removed, 1 left out" in made.out
    assert "left out: broken.png" in made.out
    image = shop / "images" / "p003.png"
    found = cir(
        *("search", shop / "index", "--image", image, "--text", "is red", "-k", "2"),
        *("--filter", "price > 1 and brand == 'y'", "--json", shop / "hits.json"),
        *("--html", shop / "hits.html"),
    )
    assert found.code == 0, found.err
    hits = json.loads((shop / "hits.json").read_text())["hits"]
    assert [hit["brand"] for hit in hits] == ["y", "y"]
    index = cir_plugins.Index.open(shop / "index")
    again = index.search(image, "is red", k=2, filter="price > 1 and brand == 'y'")
    assert hits == [hit.to_dict() for hit in again]  # the scores to the bit
    assert all(hit["id"] in found.out for hit in hits)
    page = (shop / "hits.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert all(f"{hit['id']}, {hit['score']:.4f}" in page for hit in hits)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("index", "image_text_summ", "--images", "I", "--out", "O"), "nearest: image_text_sum"),
        (("index", "contrastive", "--images", "I", "--out", "O"), "must be trained first"),
        (("index", "image_text_sum", "--images", "nowhere", "--out", "O"), "no folder"),
        (("index", "image_text_sum", "--out", "O"), "--images DIR is missing"),
        (("index", "image_text_sum", "--images", "I", "--out", "O", "--backend", "exakt"), "exact"),
        (
            ("index", "image_text_sum", *TINY, "--images", "I", "--out", "O", "--group", "colour"),
            "no field of the metadata",
        ),
        (
            ("index", "image_text_sum", "--images", "I", "--out", "O", "--set", "train.lr=1"),
            "train",
        ),
        (("search", "nowhere", "--text", "red"), "is no index"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cir: Call,
    shop: Path,
    arguments: tuple[str, ...],
    fragment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(shop)
    (shop / "I").symlink_to(shop / "images")
    assert cir(*arguments).complains(fragment)
