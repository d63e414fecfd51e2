"""Tables of one's own, damaged: an output or one message."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import holds, run
from tests.fuzz.values import STRINGS, ByteDamage, byte_damages, is_half, strange_values
from tests.layouts import small_triplets

Rows = Sequence[Mapping[str, Any]]
Cells = Sequence[tuple[int, int, Any]]
_COLUMNS = ("reference", "text", "target", "group", "split", "category", "price")
_OPTIONS = (
    *("", "data.faulty=drop", "data.missing=drop", "data.by_category=true", "data.gallery=folder"),
    *("data.split=", "data.val_share=0.9", "data.caption_mode=single", "data.encoding=cp1252"),
    *("data.group=price", "data.text=category", "data.images=.", "data.encoding=utf-16"),
)
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32")
# Cells in the file's own words, and any value.
_texts = st.sampled_from(["a.png", "a", "images/b.png", "train", "val", "p1", *STRINGS])
_cells: st.SearchStrategy[Cells] = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(0, len(_COLUMNS) - 1), st.one_of(_texts, strange_values)
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table with its pictures; read only."""
    return small_triplets(tmp_path_factory.mktemp("shop") / "shop")


def copied(shop: Path, root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A copy of the pictures in a new folder, and the rows of the table."""
    (root / "images").mkdir(parents=True)
    for picture in (shop / "images").iterdir():
        (root / "images" / picture.name).write_bytes(picture.read_bytes())
    text = (shop / "triplets.csv").read_text(encoding="utf-8")
    return root, list(csv.DictReader(io.StringIO(text)))


def changed(rows: list[dict[str, Any]], cells: Cells) -> Rows:
    for number, column, value in cells:
        if number == len(rows):
            rows.append(dict(rows[0]) if rows else {})
        rows[number % len(rows)][_COLUMNS[column]] = value
    return rows


def as_csv(rows: Rows, delimiter: str, encoding: str) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(names)
    writer.writerows([[str(row.get(name, "")) for name in names] for row in rows])
    return text.getvalue().encode(encoding, "replace")


def as_lines(rows: Rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode("utf-8", "surrogatepass")


def check(root: Path, *sets: str, splits: bool = True) -> None:
    """``cir check`` of a folder gives a table of its splits, or says what is wrong."""
    words = [word for option in sets if option for word in ("--set", option)]
    output = holds(run("check", "--data", "triplets", "--root", root, "--no-decode", *words), 1)
    if output.code == 1:
        assert "error: " in output.out
    elif splits:
        assert "train" in output.out or "val" in output.out or "test" in output.out


@profiles
def test_check_of_strange_cells(times: int, shop: Path, folders: Folders) -> None:
    """Whatever a cell holds, in CSV of any spreadsheet and in JSON Lines."""

    def property_holds(cells: Cells, delimiter: str, encoding: str, sets: Sequence[str]) -> None:
        root, rows = copied(shop, folders() / "data")
        if delimiter:
            (root / "triplets.csv").write_bytes(as_csv(changed(rows, cells), delimiter, encoding))
        else:
            try:
                content = as_lines(changed(rows, cells))
            except ValueError:  # a number of thousands of digits
                return
            (root / "triplets.jsonl").write_bytes(content)
        check(root, *sets)

    explore(
        50 * times,
        property_holds,
        _cells,
        st.sampled_from([",", ";", "\t", ""]),
        st.sampled_from(_ENCODINGS),
        st.lists(st.sampled_from(_OPTIONS), max_size=2),
    )


@profiles
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "saved"])
def test_check_of_damaged_tables(kind: str, times: int, shop: Path, folders: Folders) -> None:
    """Bytes that are lost, changed or repeated in each of the formats."""
    source = _written(kind, shop, folders() / "source")

    def property_holds(damages: Sequence[tuple[int, ByteDamage]]) -> None:
        root, _ = copied(shop, folders() / "data")
        for name, content in source.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        for number, damage in damages:
            name = sorted(source)[number % len(source)]
            (root / name).write_bytes(damage.of((root / name).read_bytes()))
        check(root, "data.file=saved" if kind == "saved" else "")

    damages = st.lists(st.tuples(st.integers(0, 9), byte_damages), min_size=1, max_size=2)
    explore(20 * times, property_holds, damages)


def _written(kind: str, shop: Path, folder: Path) -> dict[str, bytes]:
    """The files of the table in a format, by path below the data folder."""
    _, rows = copied(shop, folder)
    if kind == "csv":
        return {"triplets.csv": as_csv(rows, ";", "utf-8-sig")}
    if kind == "jsonl":
        return {"triplets.jsonl": as_lines(rows)}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if kind == "parquet":
        arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        parquet: Any = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        parquet.write_table(arrow.table(columns), folder / "triplets.parquet")
        return {"triplets.parquet": (folder / "triplets.parquet").read_bytes()}
    datasets: Any = pytest.importorskip("datasets", reason="datasets is not installed")
    datasets.Dataset.from_dict(columns).save_to_disk(folder / "saved")
    files = (folder / "saved").iterdir()
    return {f"saved/{file.name}": file.read_bytes() for file in files}


@profiles
def test_options_of_any_text(times: int, shop: Path) -> None:
    """Names of columns, of the table and of the picture folder hold any text."""

    def property_holds(key: str, value: str) -> None:
        words = ("check", "--data", "triplets", "--root", shop, "--no-decode")
        holds(run(*words, "--set", f"data.{key}={json.dumps(value)}"), 1)

    keys = ("file", "images", "reference", "text", "target", "group", "split", "category")
    texts = st.sampled_from([text for text in STRINGS if not any(map(is_half, text))])
    explore(30 * times, property_holds, st.sampled_from(keys), texts)
