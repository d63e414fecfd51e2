"""CSV and TSV as spreadsheets save them: any delimiter, a byte order mark, other encodings."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from cir_plugins.data.tables.rows import row_list
from cir_plugins.data.tables.table import Table
from cir_plugins.errors import CIRError
from cir_plugins.files import read_bytes

Encoding = Literal[
    "auto",
    "utf-8",
    "utf-16",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp932",
    "gb18030",
    "big5",
    "euc_kr",
    "latin-1",
    "mac_roman",
]
"""Encoding of a text file; ``auto``: by its byte order mark, without one UTF-8."""

_DELIMITERS = (",", ";", "\t", "|")
# That of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZIP = b"PK\x03\x04"  # what .xlsx and .ods are inside
_WAY_OUT = "accepted: UTF-8; save it as 'CSV UTF-8', or name its encoding: --set data.encoding="


def read_delimited(path: Path, encoding: Encoding = "auto") -> Table:
    """The table of a CSV or TSV file; the delimiter is the one that divides the first row most.

    Rows count as in a spreadsheet: the header is row 1, a blank row counts, a line break within
    quotation marks does not.

    Raises:
        CIRError: If the file cannot be read, is of another encoding, or is no table.
    """
    where = str(path)
    text, announced = _announced(decode(read_bytes(path), where, encoding))
    delimiter = announced or _delimiter(text)
    records = _records(text, delimiter, where, before=1 if announced else 0)
    if not records:
        raise CIRError(f"{where} is empty\naccepted: a first row with the names of the columns")
    return _table(where, records, decimal_comma=delimiter == ";")


def decode(content: bytes, where: str, encoding: Encoding = "auto") -> str:
    """The text of a file's bytes.

    Args:
        content: The bytes.
        where: The file, for messages.
        encoding: How they are encoded.

    Raises:
        CIRError: If they are not, with the lines where.
    """
    if content.startswith(_ZIP):
        raise CIRError(f"{where} is a spreadsheet's own format, not CSV\n{_WAY_OUT}...")
    by_mark = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    name = by_mark or ("utf-8" if encoding == "auto" else encoding)
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(content, where, name, error) from error
    if "\0" in text:
        raise CIRError(f"{where} has null characters, as UTF-16 without its mark\n{_WAY_OUT}utf-16")
    return text


def _wrong_encoding(content: bytes, where: str, name: str, error: UnicodeDecodeError) -> CIRError:
    if name != "utf-8":
        return CIRError(f"{where} is not {name} (byte {error.start})\n{_WAY_OUT}...")
    lines = content.split(b"\n")
    wrong = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    line = lines[wrong[0] - 1] if wrong else content[error.start :]
    sample = line.decode("cp1252", "replace").strip()[:60]
    return CIRError(
        f"{where} is not UTF-8 text: {row_list(map(str, wrong), 'line')}; as cp1252 the first "
        f"reads {sample!r}\n{_WAY_OUT}cp1252"
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _announced(text: str) -> tuple[str, str]:
    """The text, and the delimiter of a first line ``sep=;``, which is then left out."""
    first, _, rest = text.partition("\n")
    line = first.strip("\r ").strip('"')
    announced = line[len("sep=") :] if line.lower().startswith("sep=") else ""
    return (rest, announced) if len(announced) == 1 and announced in _DELIMITERS else (text, "")


def _delimiter(text: str) -> str:
    def cells(delimiter: str) -> int:
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            return len(next((row for row in rows if any(map(str.strip, row))), []))
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=cells)  # the first of equals


def _records(text: str, delimiter: str, where: str, before: int) -> list[tuple[int, list[str]]]:
    """Row number and cells of each row that is not blank."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    number = before
    try:
        for row in rows:
            number += 1
            cells = [cell.strip() for cell in row]
            if any(cells):
                records.append((number, cells))
    except csv.Error as error:
        reason = str(error)
        if "unexpected end" in reason:
            reason = "a quotation mark is opened and never closed"
        raise CIRError(
            f"{where}, row {number + 1} is no row of a CSV file: {reason}\n"
            'accepted: a text with quotation marks as "a \'text\' with ""two"" of each"'
        ) from error
    return records


def _table(where: str, records: Sequence[tuple[int, list[str]]], decimal_comma: bool) -> Table:
    """The table; columns without a name, as of an index that pandas wrote, are left out."""
    (_, header), *body = records
    long = [str(number) for number, row in body if any(row[len(header) :])]
    if long:
        raise CIRError(
            f"{where}: more cells than the {len(header)} of the header in {row_list(long)}\n"
            "accepted: a text that holds the delimiter in quotation marks"
        )
    named = [name for name in header if name]
    twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if twice:
        raise CIRError(f"{where}: the column '{twice[0]:.60}' is there more than once")
    cells = {
        name: tuple(row[place] if place < len(row) else "" for _, row in body)
        for place, name in enumerate(header)
        if name
    }
    rows = tuple(str(number) for number, _ in body)
    return Table(where, rows, cells, decimal_comma=decimal_comma)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file in UTF-8 with commas, which ``read_delimited`` and spreadsheets read."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
