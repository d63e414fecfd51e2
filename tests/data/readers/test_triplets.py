from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.data.readers.triplets import Triplets
from cir_plugins.data.split import Split
from cir_plugins.data.table import training_table
from cir_plugins.errors import CIRError
from tests.layouts import small_triplets, write_picture, write_triplets

HEADER = ("reference", "text", "target", "group", "split", "category")


def by_name(splits: list[Split]) -> dict[str, Split]:
    of_name = {split.name: split for split in splits}
    assert len(of_name) == len(splits)
    return of_name


def test_splits_of_a_split_column(tmp_path: Path) -> None:
    splits = by_name(Triplets()(small_triplets(tmp_path)))
    assert list(splits) == ["train", "val"]
    train, val = splits.values()
    assert (train.role, val.role, val.drop_reference) == ("train", "val", True)
    assert train.gallery == ("a.png", "b.png", "c.png", "d.png")
    assert val.gallery == ("e.png", "f.png", "g.png")
    assert val.paths["f.png"] == tmp_path / "images" / "f.png"
    first = train.queries[1]
    assert (first.id, first.reference, first.target) == ("3", "a.png", "c.png")
    assert first.captions == ("Longer, with sleeves.",)
    assert first.text == "Longer, with sleeves"
    assert val.measures == ("recall@1", "recall@5", "recall@10", "recall@50")
    assert val.main == ("recall@10",)


def test_pictures_of_a_product_are_positives(tmp_path: Path) -> None:
    """Another view of the product that was bought must not be pushed away."""
    train = by_name(Triplets()(small_triplets(tmp_path)))["train"]
    assert [query.positives for query in train.queries] == [
        ("b.png",),
        ("c.png", "d.png"),
        ("d.png", "c.png"),
    ]
    assert "any_recall@10" in train.measures
    assert train.main == ("any_recall@10",)
    table = training_table([train])
    excluded = table.excluded_images("all")
    # The other view, and the reference, which leaves the ranking.
    names = [{table.images[i] for i in excluded[row].tolist()} for row in range(3)]
    assert names == [{"a.png"}, {"a.png", "d.png"}, {"b.png", "c.png"}]


def test_a_reference_of_the_same_product_is_no_positive(tmp_path: Path) -> None:
    """Of "the same in black" the red one is no right answer, though it is the same product."""
    rows = [
        ("red.png", "the same in black", "black.png", "p", "p", "train"),
        ("black.png", "in white", "white.png", "p", "p", "train"),
    ]
    header = ("reference", "text", "target", "group", "reference_group", "split")
    train = Triplets()(write_triplets(tmp_path, rows, *header))[0]
    assert train.queries[0].positives == ("black.png", "white.png")
    assert train.queries[1].positives == ("white.png", "red.png")
    table = training_table([train])
    assert {table.images[i] for i in table.excluded_images("all")[0].tolist()} == {
        "red.png",
        "white.png",
    }


def test_names_of_splits_are_the_usual_ones(tmp_path: Path) -> None:
    rows = [
        ("a.png", "x", "b.png", "", "Training", ""),
        ("c.png", "x", "d.png", "", "validation", ""),
        ("e.png", "x", "", "", "TEST", ""),
    ]
    splits = by_name(Triplets()(write_triplets(tmp_path, rows, *HEADER)))
    assert list(splits) == ["train", "val", "test"]
    blind = splits["test"].queries[0]
    assert (blind.target, blind.positives) == (None, ())


def test_columns_of_other_names_and_several_texts(tmp_path: Path) -> None:
    header = ("Candidate", "caption", "caption_2", "bought", "SKU")
    rows = [("a.png", "is red", "", "b.png", "1"), ("c.png", "is blue", "is long", "d.png", "2")]
    root = write_triplets(tmp_path, rows, "reference", "caption", "caption_2", "target", "SKU")
    file = root / "triplets.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([",".join(header), *lines[1:]]))
    named = {"reference": "candidate", "text": "caption", "target": "bought", "group": "sku"}
    train = Triplets(**named, val_share=0.0)(root)[0]  # type: ignore[arg-type]
    assert [query.text for query in train.queries] == ["is red", "is blue and is long"]
    both = Triplets(**named, val_share=0.0, caption_mode="both_orders")(root)[0]  # type: ignore[arg-type]
    assert [query.id for query in both.queries] == ["2.0", "3.0", "3.1"]
    with pytest.raises(CIRError) as error:
        Triplets()(root)
    assert "has no column 'reference', 'text', 'target'" in str(error.value)
    assert "its columns: Candidate, caption, caption_2, bought, SKU" in str(error.value)
    with pytest.raises(CIRError, match=r"no column 'colour'.*\n.*--set data.category=COLUMN"):
        Triplets(**named, category="colour")(root)  # type: ignore[arg-type]


def test_what_is_wrong_with_rows_is_one_message(tmp_path: Path) -> None:
    """Whoever fixes a table of thousands wants all of its faults at once, by row."""
    rows = [
        ("a.png", "in black", "b.png"),
        ("a.png", " ", "b.png"),
        ("a.png", "in black", "b.png"),
        ("", "in red", "b.png"),
        ("a.png", "in red", ""),
        ("a.png", "", "c.png"),
        ("a.png", "in red", "c.png"),
        ("bb.png", "in red", "c.png"),
    ]
    root = write_triplets(tmp_path, rows, "reference", "text", "target")
    (root / "images" / "bb.png").unlink()
    with pytest.raises(CIRError) as error:
        Triplets()(root)
    assert str(error.value).splitlines() == [
        f"{root}/triplets.csv: 6 of 8 rows cannot be used",
        "no text: rows 3, 7; the same as row 2: row 4; no reference: row 5; no target: row 6; "
        "no picture 'bb.png' (nearest: b.png): row 9",
        "mend them, or leave them out with --set data.faulty=drop and --set data.missing=drop "
        "for those without a picture",
        f"looked for: {root}/images/**/<image>.(jpg|jpeg|png|webp|bmp|gif|tif|tiff|jfif)",
    ]
    whole = str(error.value)
    with pytest.raises(CIRError) as error:
        Triplets().annotations(root)
    assert str(error.value) == whole
    with pytest.raises(CIRError, match=r"no picture 'bb.png' \(nearest: b.png\): row 9"):
        Triplets(faulty="drop")(root)
    kept = Triplets(faulty="drop", missing="drop", val_share=0.0)(root)[0]
    assert [query.id for query in kept.queries] == ["2", "8"]
    assert kept.absent == {"queries": 1, "gallery images": 1, "faulty rows": 5}


def test_unknown_words_of_a_split_column(tmp_path: Path) -> None:
    rows = [("a.png", "x", "b.png", "", "trian", ""), ("a.png", "y", "b.png", "", "", "")]
    with pytest.raises(CIRError, match="split is 'trian': row 2; no split: row 3"):
        Triplets()(write_triplets(tmp_path, rows, *HEADER))


def test_categories_have_galleries_of_their_own(tmp_path: Path) -> None:
    rows = [
        ("a.png", "x", "b.png", "", "val", "dress"),
        ("c.png", "x", "d.png", "", "val", "shirt"),
    ]
    root = write_triplets(tmp_path, rows, *HEADER)
    splits = by_name(Triplets(by_category=True)(root))
    assert {name: split.gallery for name, split in splits.items()} == {
        "dress.val": ("a.png", "b.png"),
        "shirt.val": ("c.png", "d.png"),
    }
    assert [query.category for query in Triplets()(root)[0].queries] == ["dress", "shirt"]


def test_the_gallery_may_be_the_whole_folder(tmp_path: Path) -> None:
    """A shop searches all of its pictures; training still sees none that are held back."""
    root = small_triplets(tmp_path)
    write_picture(root / "images" / "new" / "z.png")
    train, val = Triplets(**dict(Triplets.protocols["folder"]))(root)  # type: ignore[arg-type]
    assert train.gallery == ("a.png", "b.png", "c.png", "d.png")
    assert val.gallery == (*(f"{name}.png" for name in "abcdefg"), "new/z.png")


def test_tables_that_are_found(tmp_path: Path) -> None:
    root = small_triplets(tmp_path)
    wanted = Triplets()(root)
    (root / "triplets.csv").rename(root / "shop.csv")
    assert Triplets()(root) == wanted
    (root / "other.tsv").write_text("a\tb\n")
    with pytest.raises(CIRError, match=r"several tables: other.tsv, shop.csv\naccepted: one"):
        Triplets()(root)
    assert Triplets(file="shop.csv")(root) == wanted
    (root / "shop.csv").rename(tmp_path / "elsewhere.csv")
    assert Triplets(file=str(tmp_path / "elsewhere.csv"))(root) == wanted
    (tmp_path / "elsewhere.csv").rename(root / "shop.csv")
    for file, message in (("none.csv", "does not exist"), ("a\0.csv", "cannot be read")):
        with pytest.raises(CIRError, match=message):
            Triplets(file=file)(root)
    for images in ("/", "..", "images/../.."):
        with pytest.raises(CIRError, match=r"data.images is .*\naccepted: a folder below"):
            Triplets(images=images, file="shop.csv")(root)
    with pytest.raises(CIRError, match=r"no table of triplets in .*\nlooked for: "):
        Triplets()(root / "images")


def test_files_named_after_splits(tmp_path: Path) -> None:
    root = write_triplets(tmp_path, [("a.png", "x", "b.png"), ("c.png", "y", "d.png")])
    (root / "triplets.csv").unlink()
    for name, row in (("train-0-of-2", "ab"), ("train-1-of-2", "ac"), ("validation", "cd")):
        line = {"reference": row[0], "text": f"{row} x", "target": row[1]}
        (root / "data").mkdir(exist_ok=True)
        (root / "data" / f"{name}.jsonl").write_text(json.dumps(line))
    splits = by_name(Triplets()(root))
    assert [query.id for query in splits["train"].queries] == [
        "train-0-of-2.jsonl.1",
        "train-1-of-2.jsonl.1",
    ]
    assert [query.id for query in splits["val"].queries] == ["validation.1"]


def test_formats_give_the_same_splits(tmp_path: Path) -> None:
    """A team that moves from a spreadsheet to Parquet must not get other numbers."""
    datasets: Any = pytest.importorskip("datasets", reason="datasets is not installed")
    root = small_triplets(tmp_path)
    wanted = Triplets()(root)
    rows = datasets.Dataset.from_csv(str(root / "triplets.csv"), cache_dir=str(tmp_path / "cache"))
    (root / "triplets.csv").unlink()

    def content(splits: list[Split]) -> list[Any]:
        return [
            (s.name, s.gallery, [(q.reference, q.text, q.target, q.positives) for q in s.queries])
            for s in splits
        ]

    rows.to_parquet(str(root / "triplets.parquet"))
    assert content(Triplets()(root)) == content(wanted)
    rows.save_to_disk(root / "saved")
    assert content(Triplets(file="saved")(root)) == content(wanted)
    (root / "triplets.parquet").unlink()
    rows.to_json(str(root / "triplets.jsonl"))
    assert content(Triplets()(root)) == content(wanted)


def test_notes_on_a_division(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "x", f"{(n + 1) % 9}.png") for n in range(9)]
    root = write_triplets(tmp_path, rows, "reference", "text", "target")
    assert Triplets().notes(root) == [
        "no split column: 1 of 9 rows are held back as val (data.val_share=0.1), no product is in "
        "both splits",
        "rows across train and val: 2, left out, as their products hang together; a split column "
        "of your own may do better",
    ]


def test_notes_on_columns_and_splits(tmp_path: Path) -> None:
    rows = [("a.png", "x", "b.png", "9,5", "train"), ("b.png", "x", "c.png", "8", "val")]
    root = write_triplets(tmp_path, rows, "reference", "text", "target", "price", "split")
    (root / "images" / "c.png").unlink()
    notes = Triplets().notes(root)
    assert notes == [
        f"{root}/triplets.csv: no picture 'c.png' (nearest: b.png): row 3",
        "columns without a use in training and evaluation: price (text)",
        "products in train and in val or test, by the split column: 1",
    ]
