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


def write_lines(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def small_shoes(root: Path, pictures: bool = True) -> Path:
    """Two training triplets, three of evaluation, one of them with image x1 of neither list."""
    lists = {"train_im_names.txt": ("t1", "t2", "t3"), "eval_im_names.txt": ("e1", "e2", "e3")}
    triplets = [
        ("t1", "t2", "is red."),
        ("t2", "t3", "has a heel"),
        ("e1", "e2", "is less shiny"),
        ("e2", "e1", "has laces"),
        ("x1", "e3", "is open"),
    ]
    for name, images in lists.items():
        write_lines(root / name, *(f"img_{image}.jpg" for image in images))
    entries = [
        {
            "ReferenceImageName": f"img_{reference}.jpg",
            "ImageName": f"img_{target}.jpg",
            "RelativeCaption": caption,
        }
        for reference, target, caption in triplets
    ]
    write_json(root / "relative_captions_shoes.json", entries)
    for image in (*(n for names in lists.values() for n in names), "x1") if pictures else ():
        write_picture(root / "womens_boots" / "0" / f"img_{image}.jpg")
    return root


def small_fashion200k(root: Path, pictures: bool = True) -> Path:
    """Five training images with four captions, and four test images with two queries."""
    train = ("red lace dress", "blue lace dress", "red lace dress", "blue silk dress", "hat")
    test = ("black coat", "white coat", "white coat", "long white coat")
    for name, captions in (("train", train), ("test", test)):
        images = [f"women/dresses/{name}/{number}.jpeg" for number in range(len(captions))]
        lines = [f"{image}\t0.97\t{text}" for image, text in zip(images, captions, strict=True)]
        write_lines(root / "labels" / f"dress_{name}_detect_all.txt", *lines)
        for shade, image in enumerate(images if pictures else ()):
            write_picture(root / image, shade)
    pairs = [(0, 1), (2, 3)]
    lines = [" ".join(f"women/dresses/test/{number}.jpeg" for number in pair) for pair in pairs]
    write_lines(root / "test_queries.txt", *lines)
    return root


def small_genecis(root: Path, pictures: bool = True) -> Path:
    """Two queries for each of the two object tasks, with galleries of three images."""

    def entry(condition: str, reference: int, target: int, *gallery: int) -> dict[str, Any]:
        return {
            "condition": condition,
            "reference": {"val_image_id": reference},
            "target": {"val_image_id": target},
            "gallery": [{"val_image_id": number} for number in gallery],
        }

    queries = [entry("sky", 1, 5, 3, 4), entry("wall", 2, 3, 4, 6)]
    write_json(root / "change_object.json", queries)
    write_json(root / "focus_object.json", [*queries[::-1]])
    for number in range(1, 7) if pictures else ():
        write_picture(root / "val2017" / f"{number:012d}.jpg", number)
    return root


def small_lasco(root: Path, pictures: bool = True) -> Path:
    """Two training triplets, and two of val with a corpus of five images."""

    def path(role: str, number: int) -> str:
        return f"{role}2014/COCO_{role}2014_{number:012d}.jpg"

    def entry(role: str, number: int, reference: int, target: int, text: str) -> dict[str, Any]:
        return {
            "qid": number,
            "query-image": [reference, path(role, reference)],
            "query-text": text,
            "target-image": [target, path(role, target)],
        }

    train = [entry("train", 10, 21, 22, "two dogs"), entry("train", 11, 22, 23, "at night")]
    val = [entry("val", 12, 1, 2, "a red bus"), entry("val", 13, 3, 4, "no people")]
    corpus = [{"id": n, "path": f"val/{path('val', n)}"} for n in (5, 4, 3, 2, 1)]
    write_json(root / "lasco_train.json", train)
    write_json(root / "lasco_val.json", val)
    write_json(root / "lasco_val_corpus.json", corpus)
    for role, numbers in (("train", (21, 22, 23)), ("val", range(1, 6))):
        for number in numbers if pictures else ():
            write_picture(root / path(role, number), number)
    return root


def small_icir(root: Path, pictures: bool = True) -> Path:
    """Instance ``dog`` with two queries and four images, instance ``mug`` with one and two."""
    queries = ["query/dog/a.jpg,at night,dog", "query/dog/a.jpg,as a toy,dog"]
    queries += ["query/mug/b.jpg,broken,mug"]
    database = [
        "database/dog/0.jpg,at night,dog",
        "database/dog/1.jpg,as a toy,dog",
        "database/dog/2.jpg,at night,dog",
        "database/dog/3.jpg,in snow,dog",
        "database/mug/4.jpg,whole,mug",
        "database/mug/5.jpg,broken,mug",
    ]
    write_lines(root / "query_files.csv", *queries)
    write_lines(root / "database_files.csv", *database)
    images = dict.fromkeys(line.split(",")[0] for line in (*queries, *database))
    for shade, image in enumerate(images if pictures else ()):
        write_picture(root / image, shade)
    return root


def small_preferences(root: Path) -> Path:
    """HP-FashionIQ's file with three items of two users, pairs of images, and the pictures."""

    def questions(*items: tuple[str, str, str, str, str]) -> dict[str, Any]:
        def paths(names: str) -> list[str]:
            return [f"/-/image_data/shirt/{name}.jpg" for name in names]

        entry: dict[str, list[Any]] = {
            "ref_img_paths": [paths(item[0])[0] for item in items],
            "targ_img_paths": [paths(item[2])[0] for item in items],
            "sentences": [item[1] for item in items],
            "retrieved_set1": [{"img_path": paths(i[2]), "user_score": "4"} for i in items],
            "retrieved_set2": [{"img_path": paths(i[3]), "user_score": "3"} for i in items],
            "preferred set": [item[4] for item in items],
        }
        return {"question_set_1": entry}

    first = questions(
        ("r", "IS RED  and is long", "ab", "cd", "1"), ("q", "is blue", "db", "ac", "2")
    )
    users = {"user_1": first, "user_2": questions(("r", "is green", "ac", "bd", "1"))}
    write_json(root / "hpfiq.json", users)
    for shade, name in enumerate("abcdqr"):
        write_picture(root / "images" / f"{name}.png", 40 * shade)
    return root / "hpfiq.json"
