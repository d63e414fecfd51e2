from __future__ import annotations

from pathlib import Path

import pytest

from cir_plugins.data.tables import csv_bytes, read_table
from cir_plugins.errors import CIRError


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_delimiters_and_byte_order_marks(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """A spreadsheet of another country saves with semicolons, and Excel puts a mark first."""
    text = "reference,text,target\r\na,écru,b\r\n".replace(",", delimiter)
    table = read_table(written(tmp_path, text.encode(encoding)))
    assert dict(table.cells) == {"reference": ("a",), "text": ("écru",), "target": ("b",)}
    assert table.rows == ("2",)


def test_rows_count_as_in_a_spreadsheet(tmp_path: Path) -> None:
    """The header is row 1, a blank row counts, a line break in a cell does not."""
    table = read_table(written(tmp_path, 'a,b\n1,"two\nlines"\n,\n\n3,"x, ""y"""\n'))
    assert table.rows == ("2", "5")
    assert table.cells["b"] == ("two\nlines", 'x, "y"')


def test_a_first_line_that_names_the_delimiter(tmp_path: Path) -> None:
    """Excel writes and needs ``sep=;`` where the country's delimiter is another one."""
    table = read_table(written(tmp_path, "sep=;\nreference;text, here\na;b\n"))
    assert table.rows == ("3",)
    assert list(table.cells) == ["reference", "text, here"]


def test_short_rows_and_an_index_without_a_name(tmp_path: Path) -> None:
    """Pandas writes its index as a first column without a name."""
    table = read_table(written(tmp_path, ",a,b\n0,x\n1,y,z\n"))
    assert dict(table.cells) == {"a": ("x", "y"), "b": ("", "z")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a,b\n1,2\n1,2,3\n1,2,\n4,5,6\n", "more cells than the 2 of the header in rows 3, 5"),
        (b'a,b\n1,2\n1,"2\n', "row 3 is no row of a CSV file: a quotation mark is opened"),
        (b"a,b,a\n", "the column 'a' is there more than once"),
        (b"PK\x03\x04...", "a spreadsheet's own format, not CSV"),
        (b"a,b\nx,\xe9t\xe9\ny,z\nu,\xe0\n", "is not UTF-8 text: lines 2, 4; as cp1252 .*'x,été'"),
        ("a,b\n".encode("utf-16-le"), "has null characters, as UTF-16 without its mark"),
    ],
)
def test_what_is_no_csv_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CIRError, match=message):
        read_table(written(tmp_path, content))


def test_an_encoding_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, "a,b\nécru,naïve\n".encode("cp1252"))
    assert read_table(file, "cp1252").cells["a"] == ("écru",)
    with pytest.raises(CIRError, match=r"--set data.encoding=cp1252"):
        read_table(file)


def test_other_endings_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="save it as 'CSV UTF-8'"):
        read_table(written(tmp_path, b"PK", "t.xlsx"))
    with pytest.raises(CIRError, match=r"is no table\naccepted: a file that ends in .csv"):
        read_table(written(tmp_path, b"", "t.doc"))
    with pytest.raises(CIRError, match="does not exist"):
        read_table(tmp_path / "none.csv")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [["a,b", 'say "x"', "é\nf"], ["", "1", "2"]]
    table = read_table(written(tmp_path, csv_bytes(["r", "s", "t"], rows)))
    assert [list(row) for row in zip(*table.cells.values(), strict=True)] == rows
