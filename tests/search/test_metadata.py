"""Tables of metadata in every format, and what is wrong with them in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cir_plugins as cir
from cir_plugins.search.metadata import columns_of

IDS = ["a/red.jpg", "a/blue.jpg", "b/red.jpg"]
ROWS = [
    {"image": "a/red.jpg", "price": 5, "code": "007", "sale": True, "note": "x, y"},
    {"image": "blue.jpg", "price": 2.5, "code": "12", "sale": False, "note": None},
]


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"table{suffix}"
    if suffix in (".csv", ".tsv"):
        comma = "," if suffix == ".csv" else "\t"
        lines = [comma.join(ROWS[0])]
        lines += [comma.join(["a/red.jpg", "5", "007", "true", '"x, y"'])]
        lines += [comma.join(["blue.jpg", "2.5", "12", "False", ""])]
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_each_format_gives_the_same_columns(suffix: str, tmp_path: Path) -> None:
    columns = {each.name: each for each in columns_of(written(tmp_path, suffix), IDS)}
    assert {name: [column[row] for row in range(3)] for name, column in columns.items()} == {
        "price": [5, 2.5, None],
        "code": ["007", "12", None],
        "sale": [True, False, None],
        "note": ["x, y", None, None],
    }


def test_rows_and_mappings_are_taken_as_files_are(tmp_path: Path) -> None:
    named = {row["image"]: {k: v for k, v in row.items() if k != "image"} for row in ROWS}
    for metadata in (ROWS, named):
        columns = columns_of(metadata, IDS)  # type: ignore[arg-type]
        assert [column.name for column in columns] == ["price", "code", "sale", "note"]
    assert columns_of(None, IDS) == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "image,price\nnowhere.jpg,3\n", "row 2 names 'nowhere.jpg'"),
        ("t.csv", "image,price\nred.jpg,3\n", "row 2 names 'red.jpg'"),  # two have that name
        ("t.csv", "price\n3\n", "no column that names the picture"),
        ("t.csv", "image,price\nblue.jpg,3\na/blue.jpg,4\n", "rows 2 and 3"),
        ("t.csv", "image,price\nblue.jpg,1,2\n", "more cells than the 2 of the header"),
        (
            "t.csv",
            "image,price,price\nblue.jpg,1,2\n",
            "the column 'price' is there more than once",
        ),
        ("t.csv", "image,score\nblue.jpg,1\n", "a field 'score'"),
        ("t.csv", "", "is empty"),
        ("t.csv", 'image,price\n"blue.jpg,1\n', "never closed"),
        ("t.json", '{"image": "blue.jpg"}', "holds no list"),
        ("t.jsonl", '{"image": "blue.jpg"}\n{"image": \n', "row 2"),
        ("t.parquet", "nonsense", "cannot be read"),
        ("t.xlsx", "nonsense", "a spreadsheet's own format"),
    ],
)
def test_what_is_wrong_is_one_message(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    (tmp_path / name).write_text(content)
    with pytest.raises(cir.CIRError) as caught:
        columns_of(tmp_path / name, IDS)
    assert message in str(caught.value)
    with pytest.raises(cir.CIRError, match="does not exist"):
        columns_of(tmp_path / "nowhere.csv", IDS)


def test_rows_without_a_picture_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.csv").write_text("image,price\nblue.jpg,3\nnowhere.jpg,4\n")
    (price,) = columns_of(tmp_path / "t.csv", IDS)
    assert [price[row] for row in range(3)] == [None, 3, None]
    assert "1 of 2 rows are of no picture, such as row 3" in caplog.text
