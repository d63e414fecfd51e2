"""Metadata of pictures from a table: CSV, TSV, JSON, JSONL or Parquet, a row for each picture."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from cir_plugins.data.tables import read_table, text_of
from cir_plugins.errors import CIRError, shown
from cir_plugins.search.columns import Column, check_name, make_columns

Metadata: TypeAlias = (
    "str | PathLike[str] | Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]"
)
"""A file, id -> row, or rows with a column that names the picture."""

PICTURE = ("picture", "image", "file", "filename", "path", "id")  # columns that may name it
_LOG = logging.getLogger(__name__)


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
        pairs = [(str(name), dict(row)) for name, row in metadata.items()]
        return make_columns(_in_order(pairs, ids, "the metadata", _counted(len(pairs))))
    if isinstance(metadata, str | PathLike):
        read = read_table(Path(metadata))
        table, where, labels = read.typed_rows(), f"metadata {read.where}", read.rows
    else:
        table, where = [dict(row) for row in metadata], "the metadata"
        labels = _counted(len(table))
    key = _key(table, where)
    named = [(text_of(row.get(key)), _without(row, key)) for row in table]
    return make_columns(_in_order(named, ids, where, labels))


def _counted(count: int) -> tuple[str, ...]:
    """Names of rows that have none, from 1."""
    return tuple(map(str, range(1, count + 1)))


def _without(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The row's other fields; several texts of one are joined."""
    fields = ((name, value) for name, value in row.items() if name != key)
    return {name: text_of(v) if isinstance(v, tuple) else v for name, v in fields}


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
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    ids: Sequence[str],
    where: str,
    labels: Sequence[str],
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
            both = f"rows {labels[found[position]]} and {labels[number]}"
            raise CIRError(f"{where}, {both}: both are of picture '{ids[position]}'")
        else:
            found[position] = number
    if unknown and not found:
        raise CIRError(
            f"{where}: no row is of a picture that was indexed; row {labels[unknown[0]]} names "
            f"'{rows[unknown[0]][0]}'\naccepted: ids such as '{ids[0] if ids else ''}'"
        )
    if unknown:
        _LOG.warning(
            "%s: %d of %d rows are of no picture, such as row %s: '%s'",
            *(where, len(unknown), len(rows), labels[unknown[0]], rows[unknown[0]][0]),
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
