"""A table in memory: cells as their file has them, and columns with their types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Cell: TypeAlias = "str | int | float | bool | tuple[str, ...] | None"
"""A value of a table; None where there is none."""
Kind = Literal["text", "integer", "number", "boolean", "texts"]
SPLIT = "split"  # name of the column that says which part of a data set a row is of

# A number with a zero before it is an article number, which a number would cut.
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)?(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


@dataclass(frozen=True)
class Column:
    """A column with its type.

    Attributes:
        kind: ``text``, ``integer`` (64 bits), ``number`` (finite), ``boolean``, or ``texts``: a
            list of texts in each cell.
        values: One for each row, of that type; None for an empty cell.
    """

    kind: Kind
    values: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table as its file has it.

    Attributes:
        where: Its file or folder, for messages.
        rows: Name of each row, for messages: its number as a spreadsheet or an editor shows it, or
            ``train.5`` where a table has several parts.
        cells: The cells by column, in the file's order; texts without blanks at their ends.
        unread: Columns whose cells are no texts, numbers, booleans or lists of texts.
        decimal_comma: Whether numbers may be written ``12,5``.
    """

    where: str
    rows: tuple[str, ...]
    cells: Mapping[str, tuple[Cell, ...]]
    unread: tuple[str, ...] = ()
    decimal_comma: bool = False

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def texts(self, column: str) -> tuple[str, ...]:
        """The cells of a column as texts, "" for an empty one; all empty without the column.

        Article numbers of a numeric column are written as whole numbers: 123, not 123.0.
        """
        if column not in self.cells:
            return ("",) * len(self.rows)
        return tuple(map(text_of, self.cells[column]))

    def columns(self) -> dict[str, Column]:
        """The columns with their types, by name."""
        return {name: _column(cells, self.decimal_comma) for name, cells in self.cells.items()}

    def typed_rows(self) -> list[dict[str, Cell]]:
        """The rows as values by column, of the columns' types; None for an empty cell."""
        columns = [column.values for column in self.columns().values()]
        if not columns:
            return [{} for _ in self.rows]
        return [dict(zip(self.cells, row, strict=True)) for row in zip(*columns, strict=True)]


def join(where: str, parts: Mapping[str, Table], splits: Mapping[str, str] | None = None) -> Table:
    """One table of several parts, with the split of each row in the column ``split``.

    A part that has this column keeps its own. A column that some part lacks is empty there.

    Args:
        where: The file or folder of all, for messages.
        parts: The parts by name, which the names of the rows begin with.
        splits: Split by the name of the part; None where the names are those of the splits.
    """
    names = dict.fromkeys(name for table in parts.values() for name in table.cells)
    names[SPLIT] = None
    cells: dict[str, tuple[Cell, ...]] = {}
    for name in names:
        joined: list[Cell] = []
        for part, table in parts.items():
            absent = (splits or {}).get(part, part) if name == SPLIT else None
            joined += table.cells.get(name, (absent,) * len(table))
        cells[name] = tuple(joined)
    rows = [f"{part}.{row}" for part, table in parts.items() for row in table.rows]
    unread = dict.fromkeys(name for table in parts.values() for name in table.unread)
    decimal = any(table.decimal_comma for table in parts.values())
    return Table(where, tuple(rows), cells, tuple(unread), decimal)


def cell_of(value: object) -> tuple[Cell, bool]:
    """A Python value as a cell, and whether a table can hold it."""
    if value is None or isinstance(value, bool | int):
        return value, True
    if isinstance(value, float):
        return (value if math.isfinite(value) else None), True
    if isinstance(value, str):
        return value.strip(), True
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(item.strip() for item in value), True
    return None, False


def table_of_objects(
    where: str, rows: Iterable[str], objects: Sequence[Mapping[str, object]]
) -> Table:
    """The table of rows that are objects with members by column."""
    names = dict.fromkeys(str(name).strip() for one in objects for name in one)
    stripped = [{str(name).strip(): value for name, value in one.items()} for one in objects]
    cells: dict[str, tuple[Cell, ...]] = {}
    unread: list[str] = []
    for name in names:
        pairs = [cell_of(one.get(name)) for one in stripped]
        if all(fits for _, fits in pairs):
            cells[name] = tuple(cell for cell, _ in pairs)
        else:
            unread.append(name)
    return Table(where, tuple(rows), cells, tuple(unread))


def text_of(cell: Cell) -> str:
    """A cell as text, "" for an empty one; a list of texts is joined by blanks."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, tuple):
        return " ".join(cell)
    return str(cell)


def _column(cells: Sequence[Cell], decimal_comma: bool) -> Column:
    present = [cell for cell in cells if cell not in (None, "")]
    kinds = {type(cell) for cell in present}
    if kinds == {str}:
        return _column_of_texts([text_of(cell) for cell in cells], decimal_comma)
    if tuple in kinds:
        values = (cell if isinstance(cell, tuple) else (text_of(cell),) for cell in cells)
        kept = zip(cells, values, strict=True)
        return Column("texts", tuple(None if cell in (None, "") else value for cell, value in kept))
    if kinds == {bool}:
        return Column("boolean", tuple(cell if isinstance(cell, bool) else None for cell in cells))
    if kinds == {int} and all(isinstance(c, int) and abs(c) < 2**63 for c in present):
        return Column("integer", tuple(cell if isinstance(cell, int) else None for cell in cells))
    if kinds and kinds <= {int, float} and all(_is_double(cell) for cell in present):
        return Column(
            "number",
            tuple(float(cell) if isinstance(cell, int | float) else None for cell in cells),
        )
    return Column("text", tuple(text_of(cell) or None for cell in cells))


def _is_double(cell: Cell) -> bool:
    """Whether a number is within what a double holds."""
    return isinstance(cell, float) or (isinstance(cell, int) and abs(cell) < 2**1023)


def _column_of_texts(texts: Sequence[str], decimal_comma: bool) -> Column:
    """The column of cells that a file has as texts, as CSV has all of them."""
    present = [text for text in texts if text]
    if all(text.lower() in _BOOLEANS for text in present):
        return Column("boolean", tuple(_BOOLEANS.get(text.lower()) for text in texts))
    if all(_INTEGER.fullmatch(text) for text in present):
        return Column("integer", tuple(int(text) if text else None for text in texts))
    points = [text.replace(",", ".") if decimal_comma else text for text in texts]
    if all(_is_number(point) for point in points if point):
        return Column("number", tuple(float(point) if point else None for point in points))
    return Column("text", tuple(text or None for text in texts))


def _is_number(text: str) -> bool:
    digits = any(character in "0123456789" for character in text)
    return digits and bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))
