"""Writes miniature data sets, so that tests can damage them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def write_picture(file: Path, shade: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 8), (shade % 256, 90, 160)).save(file)


def triplet(candidate: str, target: str | None, *captions: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"candidate": candidate, "captions": list(captions)}
    return entry if target is None else {**entry, "target": target}


def write_fashioniq(
    root: Path,
    name: str,
    triplets: Sequence[dict[str, Any]],
    images: Iterable[str],
    pictures: bool = True,
) -> None:
    """Captions and image list of ``name``, such as ``dress.val``, and the pictures."""
    images = list(images)
    write_json(root / "captions" / f"cap.{name}.json", triplets)
    write_json(root / "image_splits" / f"split.{name}.json", images)
    if pictures:
        for shade, image in enumerate(images):
            write_picture(root / "images" / f"{image}.png", shade)


def small_fashioniq(root: Path, pictures: bool = True) -> Path:
    """Two categories: dress with train, val and test, shirt with val; image s1 is in both."""
    write_fashioniq(
        root,
        "dress.train",
        [triplet("t1", "t2", "is red.", "has sleeves"), triplet("t2", "t3", "", "is Long")],
        ["t1", "t2", "t3", "t4"],
        pictures,
    )
    write_fashioniq(
        root,
        "dress.val",
        [
            triplet("d1", "d2", " Is BLUE. ", "no sleeves; short"),
            triplet("d1", "d3", "is red", "long"),
        ],
        ["d1", "d2", "d3", "s1", "d4"],
        pictures,
    )
    write_fashioniq(root, "dress.test", [triplet("e1", None, "a", "b")], ["e1", "e2"], pictures)
    write_fashioniq(
        root, "shirt.val", [triplet("s2", "s1", "is green", "plain")], ["s1", "s2"], pictures
    )
    return root


def cirr_entry(
    number: int, reference: str, target: str | None, members: Sequence[str], caption: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "pairid": number,
        "reference": reference,
        "caption": caption,
        "img_set": {"id": 1, "members": list(members)},
    }
    return entry if target is None else {**entry, "target_hard": target}


def small_cirr(root: Path, pictures: bool = True, folder: str = "", blind: int = 6) -> Path:
    """A val split of eight images and a test1 of six or more; no train captions."""
    for name, where, count in (("val", "dev", 8), ("test1", "test1", blind)):
        names = [f"{where}-{number}" for number in range(count)]
        targets = (None, None) if name == "test1" else (names[1], names[0])
        entries = [
            cirr_entry(40, names[0], targets[0], names[:6], "Make it, blue."),
            cirr_entry(41, names[2], targets[1], names[:6], "two dogs"),
        ]
        write_json(root / "captions" / f"cap.rc2.{name}.json", entries)
        paths = {image: f"./{where}/{image}.png" for image in names}
        write_json(root / "image_splits" / f"split.rc2.{name}.json", paths)
        for image in names if pictures else ():
            write_picture(root / folder / where / f"{image}.png")
    return root


def small_circo(root: Path, pictures: bool = True, folder: str = "images") -> Path:
    """Two val and two test queries over the images 1 to 9."""
    val = [
        {
            "id": 0,
            "reference_img_id": 1,
            "target_img_id": 5,
            "gt_img_ids": [5, 3],
            "relative_caption": "has two dogs",
            "shared_concept": "a dog",
            "semantic_aspects": ["cardinality"],
        },
        {
            "id": 1,
            "reference_img_id": 2,
            "target_img_id": 4,
            "gt_img_ids": [4],
            "relative_caption": "is at night",
            "shared_concept": "a street",
            "semantic_aspects": ["negation", "addition"],
        },
    ]
    blind = ("id", "reference_img_id", "relative_caption", "shared_concept")
    write_json(root / "annotations" / "val.json", val)
    write_json(root / "annotations" / "test.json", [{k: e[k] for k in blind} for e in val])
    for number in range(1, 10) if pictures else ():
        write_picture(root / folder / f"{number:012d}.jpg")
    return root


def write_circo_info(root: Path, numbers: Iterable[int]) -> None:
    """The list of the unlabeled images."""
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in numbers]
    file = root / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"
    write_json(file, {"images": images})


def write_triplets(root: Path, rows: Sequence[Sequence[str]], *header: str) -> Path:
    """``triplets.csv`` with these rows, and all pictures that they name, in ``images``."""
    header = header or ("reference", "text", "target", "group")
    root.mkdir(parents=True, exist_ok=True)
    with (root / "triplets.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    places = [header.index(name) for name in ("reference", "target")]
    names = {row[place] for row in rows for place in places if place < len(row) and row[place]}
    for shade, name in enumerate(sorted(names)):
        write_picture(root / "images" / name, shade)
    return root


def small_triplets(root: Path) -> Path:
    """Three rows of a shop to train on and two to hold back; product p2 has two pictures."""
    return write_triplets(
        root,
        [
            ("a.png", "the same in black", "b.png", "p1", "train"),
            ("a.png", "Longer, with sleeves.", "c.png", "p2", "train"),
            ("b.png", "in denim", "d.png", "p2", "train"),
            ("e.png", "without the print", "f.png", "p3", "val"),
            ("f.png", "in navy", "g.png", "p4", "val"),
        ],
        *("reference", "text", "target", "group", "split"),
    )
