from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cir_plugins.data.export import export_triplets
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.data.readers.triplets import Triplets
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from tests.command import Call
from tests.layouts import small_cirr, small_fashioniq, small_triplets, write_json


def named(split: Split) -> Split:
    """A split with file names for ids, as the table has them, in alphabetical order."""
    name = {image: path.name for image, path in split.paths.items()}

    return replace(
        split,
        gallery=tuple(sorted(name[image] for image in split.gallery)),
        queries=tuple(
            replace(
                query,
                id="",
                reference=name[query.reference],
                captions=tuple(text.strip() for text in query.captions if text),
                target=name.get(query.target or ""),
                positives=tuple(sorted(name[image] for image in query.positives)),
                changed=(),
            )
            for query in split.queries
        ),
        paths={path.name: path for path in split.paths.values()},
        captions=Split("", "val", (), (), {}).captions,
    )


def comparable(splits: list[Split]) -> dict[str, Split]:
    return {s.name: replace(named(s), measures=(), main=()) for s in splits}


def test_an_exported_data_set_has_the_same_splits(tmp_path: Path) -> None:
    """A tuned model must not get other numbers because its triplets went through a table."""
    root = small_fashioniq(tmp_path)
    (root / "captions" / "cap.dress.test.json").unlink()
    shades = {"d1": "red", "d2": "blue", "d3": "blue", "d4": "red", "s1": "red", "s2": "blue"}
    shades |= {"t1": "red", "t2": "blue", "t3": "green", "t4": "red"}
    write_json(
        root / "attributes.json", {name: {"colour": shade} for name, shade in shades.items()}
    )
    splits = FashionIQ(gallery="val", drop_reference=True)(root)
    written = export_triplets(splits, root, root / "triplets.csv")
    assert written.rows == 5
    assert written.use == f"--data triplets --root {root} --set data.by_category=true"
    assert written.notes == ()
    read = Triplets(by_category=True, capitalise=True)(root)
    assert comparable(read) == comparable(splits)
    assert [q.positives for q in read[1].queries] == [("d2.png", "d3.png"), ("d3.png", "d2.png")]


def test_positives_that_are_no_products_are_counted(tmp_path: Path) -> None:
    root = small_triplets(tmp_path)
    train, val = Triplets()(root)
    first = replace(train.queries[0], positives=("b.png", "d.png"))
    train = replace(train, queries=(first, *train.queries[1:]))
    written = export_triplets([train, val], root, root / "out.csv")
    assert written.notes == (
        "3 queries have further positives that are no products: not in the file",
    )
    assert written.use == f"--data triplets --root {root} --set data.file=out.csv"
    assert (root / "out.csv").read_text().splitlines()[:2] == [
        "reference,text,target,split",
        "a.png,the same in black,b.png,train",
    ]


def test_pictures_in_several_folders_and_blind_queries(tmp_path: Path) -> None:
    root = small_cirr(tmp_path / "data")
    splits = CIRR()(root)
    written = export_triplets(splits, root, root / "triplets.csv")
    assert written.use == f"--data triplets --root {root} --set data.images=."
    read = Triplets(images=".", strip=False)(root)
    assert [query.target for split in read for query in split.queries] == [
        "dev/dev-1.png",
        "dev/dev-0.png",
        None,
        None,
    ]
    file = tmp_path / "elsewhere.csv"
    words = f"--data triplets --root {root} --set data.file={file} --set data.images=."
    assert export_triplets(splits, root, file).use == words
    assert Triplets(file=str(file), images=".", strip=False)(root) == read
    with pytest.raises(CIRError, match=r"accepted: a name with \.csv"):
        export_triplets(splits, root, tmp_path / "x.json")
    with pytest.raises(CIRError, match="no triplet to write"):
        export_triplets([], root, tmp_path / "x.csv")


def test_check_exports_triplets(cir: Call, tmp_path: Path) -> None:
    root = small_fashioniq(tmp_path)
    words = ("check", "--data", "fashioniq", "--root", root, "--no-decode")
    done = cir(*words, "--export", root / "triplets.csv", "--set", 'data.splits=["val"]')
    assert done.code == 0
    assert f"written: {root}/triplets.csv, 3 triplets\nuse it with: --data triplets" in done.out
    (root / "images" / "d2.png").unlink()
    assert cir(*words, "--export", root / "triplets.csv").complains("d2")
