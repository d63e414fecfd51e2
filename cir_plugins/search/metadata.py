"""Metadata of pictures from a table: CSV, TSV, JSON, JSONL or Parquet, a row for each picture."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from cir_plugins.errors import CIRError, shown
from cir_plugins.files import parse_json, read_json, read_text
from cir_plugins.search.columns import Column, check_name, make_columns

Metadata: TypeAlias = (
    "str | PathLike[str] | Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]"
)
"""A file, id -> row, or rows with a column that names the picture."""

PICTURE = ("picture", "image", "file", "filename", "path", "id")  # columns that may name it
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_LOG = logging.getLogger(__name__)
_FLAGS = {"true": True, "false": False}


def columns_of(metadata: Metadata | None, ids: Sequence[str]) -> tuple[Column, ...]:
    """The metadata of pictures as columns, their rows in the order of the ids.

    A row names its picture by its id or, where only one picture has it, by its name with or
    without suffix. Rows without a picture are left out with a note.

    Args:
        metadata: A file, or rows; None for none.
        ids: Of the pictures.

    Raises:
        CIRError: If the file cannot be read, has no column that names the picture, no row has a
            picture, or two rows have the same.
    """
    if metadata is None:
        return ()
    if isinstance(metadata, Mapping):
        rows = {str(name): dict(row) for name, row in metadata.items()}
        return make_columns(_in_order(list(rows.items()), ids, "the metadata", first=1))
    if isinstance(metadata, str | PathLike):
        path = Path(metadata)
        table, where, first = read_table(path), f"metadata {path}", _first_row(path)
    else:
        table, where, first = [dict(row) for row in metadata], "the metadata", 1
    key = _key(table, where)
    named = [(str(row.get(key)), _without(row, key)) for row in table]
    return make_columns(_in_order(named, ids, where, first))


def _first_row(path: Path) -> int:
    """Number of the first row as a user counts it: after the header, where there is one."""
    return 2 if path.suffix.lower() in (".csv", ".tsv") else 1


def _without(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def _key(table: Sequence[Mapping[str, Any]], where: str) -> str:
    names = dict.fromkeys(name for row in table for name in row)
    keys = [name for name in PICTURE if name in names]
    if not keys:
        raise CIRError(
            f"{where} has no column that names the picture: it has {shown(list(names))}\n"
            f"accepted: a column {', '.join(PICTURE)}"
        )
    return keys[0]


def _in_order(
    rows: Sequence[tuple[str, Mapping[str, Any]]], ids: Sequence[str], where: str, first: int
) -> list[Mapping[str, Any]]:
    """The row of each picture, {} for none."""
    names = _names(ids)
    found: dict[int, int] = {}
    unknown = []
    for number, (name, row) in enumerate(rows):
        for field in row:
            check_name(field)
        position = names.get(name)
        if position is None:
            unknown.append(number)
        elif position in found:
            both = f"rows {found[position] + first} and {number + first}"
            raise CIRError(f"{where}, {both}: both are of picture '{ids[position]}'")
        else:
            found[position] = number
    if unknown and not found:
        raise CIRError(
            f"{where}: no row is of a picture that was indexed; row {unknown[0] + first} names "
            f"'{rows[unknown[0]][0]}'\naccepted: ids such as '{ids[0] if ids else ''}'"
        )
    if unknown:
        _LOG.warning(
            "%s: %d of %d rows are of no picture, such as row %d: '%s'",
            *(where, len(unknown), len(rows), unknown[0] + first, rows[unknown[0]][0]),
        )
    fields = list(dict.fromkeys(field for _, row in rows for field in row))
    empty = dict.fromkeys(fields)
    return [
        rows[found[position]][1] if position in found else empty for position in range(len(ids))
    ]


def _names(ids: Sequence[str]) -> dict[str, int]:
    """Every name that stands for one picture alone: its id, file name and stem."""
    names: dict[str, int] = {}
    for shorten in (lambda name: name.rpartition("/")[2], lambda name: Path(name).stem):
        counts: dict[str, int] = {}
        for position, name in enumerate(ids):
            short = shorten(name)
            counts[short] = -1 if short in counts else position
        names |= {short: position for short, position in counts.items() if position >= 0}
    return names | {name: position for position, name in enumerate(ids)}


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table's file, by its suffix.

    Raises:
        CIRError: If it cannot be read, or is of another kind.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _delimited(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".json":
        return _checked(read_json(path, "metadata"), path)
    if suffix == ".jsonl":
        lines = read_text(path, "metadata").splitlines()
        rows = [
            parse_json(line, f"metadata {path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        return _checked(rows, path)
    if suffix == ".parquet":
        return _parquet(path)
    raise CIRError(f"metadata {path} is of no kind that is read; accepted: {', '.join(SUFFIXES)}")


def _checked(content: object, path: Path) -> list[dict[str, Any]]:
    rows = content if isinstance(content, list) else None
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise CIRError(f"metadata {path} is no list of tables\naccepted: [{{...}}, {{...}}]")
    return rows


def _delimited(path: Path, delimiter: str) -> list[dict[str, Any]]:
    text = read_text(path, "metadata").removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise CIRError(f"metadata {path}, line {reader.line_num}: {error}") from error
    if not lines:
        raise CIRError(f"metadata {path} is empty; accepted: a header and rows")
    header = [name.strip() for name in lines[0]]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise CIRError(f"metadata {path} has two columns '{twice[0]}'")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise CIRError(
                f"metadata {path}, row {number} has {len(line)} values; accepted: {len(header)}"
            )
    values = [
        _typed([line[position].strip() for line in lines[1:]]) for position in range(len(header))
    ]
    return [dict(zip(header, row, strict=True)) for row in zip(*values, strict=True)]


def _typed(texts: list[str]) -> list[Any]:
    """The values of a column: flags or numbers where all are, otherwise texts; None for empty."""
    present = [text for text in texts if text]
    if all(text.lower() in _FLAGS for text in present):
        return [_FLAGS[text.lower()] if text else None for text in texts]
    try:
        numbers = {text: _number(text) for text in present}
    except ValueError:
        return [text or None for text in texts]
    return [numbers[text] if text else None for text in texts]


def _number(text: str) -> int | float:
    """A number as it is written in a table; not a code such as 0042, nor inf or 1_000."""
    digits = text.lstrip("+-")
    if not digits[:1].isdigit() and digits[:1] != ".":
        raise ValueError(text)
    if "_" in text or (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()):
        raise ValueError(text)
    return int(text) if digits.isdecimal() and len(digits) < 16 else float(text)


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_table as read
    except ImportError as error:
        raise CIRError(
            f"metadata {path}: Parquet needs pyarrow (pip install pyarrow); accepted without it: "
            f"{', '.join(SUFFIXES[:-1])}"
        ) from error
    try:
        rows: list[dict[str, Any]] = read(path).to_pylist()
    except FileNotFoundError as error:
        raise CIRError(f"metadata {path} does not exist") from error
    except (ArrowInvalid, OSError) as error:
        raise CIRError(f"metadata {path} cannot be read: {str(error)[:200]}") from error
    return rows
