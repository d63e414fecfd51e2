"""Rows of a table of triplets, checked: what is wrong with any of them is one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, TypeAlias

from cir_plugins.data.readers.picture_names import PictureNames, unknown_pictures
from cir_plugins.data.tables import Table, text_of
from cir_plugins.data.tables.rows import row_list
from cir_plugins.errors import CIRError

Role: TypeAlias = Literal["train", "val", "test"]
Reason: TypeAlias = tuple[str, Sequence[str]]
"""What is wrong, and the rows where."""

ROLE_WORDS: Mapping[str, Role] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SHOWN = 8  # reasons in a message


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table.

    Attributes:
        needed: Column by what it is for; the table must have it.
        optional: Column by what it is for, and whether it was named rather than the default.
    """

    needed: Mapping[str, str]
    optional: Mapping[str, tuple[str, bool]]

    def found(self, table: Table) -> dict[str, str]:
        """The table's column by what it is for; upper and lower case are alike.

        Raises:
            CIRError: If a column is missing, with all that are.
        """
        columns: dict[str, str] = {}
        missing: list[tuple[str, str]] = []
        for use, name in self.needed.items():
            columns[use] = _column(table, name)
            if not columns[use]:
                missing.append((use, name))
        for use, (name, named) in self.optional.items():
            columns[use] = _column(table, name)
            if not columns[use] and named and name:
                missing.append((use, name))
        if missing:
            raise _missing_columns(table, missing)
        return {use: name for use, name in columns.items() if name}


def _column(table: Table, name: str) -> str:
    if name in table.cells:
        return name
    alike = [column for column in table.cells if column.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else ""


def _missing_columns(table: Table, missing: Sequence[tuple[str, str]]) -> CIRError:
    names = ", ".join(f"'{name:.60}'" for _, name in missing)
    lines = [f"{table.where} has no column {names}"]
    unread = [name for _, name in missing if name in table.unread]
    if unread:
        lines = [
            f"{table.where}: the cells of column '{unread[0]:.60}' are no texts\n"
            "accepted: names of pictures; pictures in the table must be saved as files"
        ]
    have = ", ".join(f"{name:.60}" for name in list(table.cells)[:30])
    use, name = missing[0]
    near = get_close_matches(name, table.cells, n=1, cutoff=0.4)
    example = near[0] if near else "COLUMN"
    lines.append(f"its columns: {have}; name yours with --set data.{use}={example:.60}")
    return CIRError("\n".join(lines))


@dataclass(frozen=True)
class Row:
    """One triplet of a table.

    Attributes:
        name: Which row, for messages and as the id of the query.
        reference: Id of the reference, or what the cell has where there is no such picture.
        target: That of the target; "" where there is none.
        captions: The texts, without those that are empty.
        role: Split of the row; None where the table has no split column.
        group: Product of the target, or "".
        reference_group: Product of the reference, or "".
        category: Category, or "".
    """

    name: str
    reference: str
    target: str
    captions: tuple[str, ...]
    role: Role | None = None
    group: str = ""
    reference_group: str = ""
    category: str = ""

    def pictures(self) -> Iterator[tuple[str, str]]:
        """Picture and group of the reference, then of the target where there is one."""
        yield self.reference, self.reference_group
        if self.target:
            yield self.target, self.group


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Attributes:
        rows: Those that can be used; pictures may be missing.
        faulty: What is wrong with the others.
        unknown: What is wrong with the pictures of those that can be used.
        metadata: Columns that are used for nothing, in the table's order.
    """

    rows: tuple[Row, ...]
    faulty: tuple[Reason, ...]
    unknown: tuple[Reason, ...]
    metadata: tuple[str, ...]


def read_rows(table: Table, columns: Columns, pictures: PictureNames) -> Rows:
    """The rows of a table of triplets.

    Raises:
        CIRError: If a column is missing.
    """
    found = columns.found(table)
    texts = [found["text"], *_further(table, found["text"])]
    used = {*found.values(), *texts}
    rows = list(_rows(table, found, texts))
    ids, unknown = _ids(rows, pictures)
    rows = [replace(row, reference=ids[row.reference], target=ids[row.target]) for row in rows]
    words = table.texts(found["split"]) if "split" in found else None
    faults: dict[str, list[str]] = {}
    seen: dict[tuple[str, str, tuple[str, ...]], str] = {}
    good: list[Row] = []
    for place, row in enumerate(rows):
        word = None if words is None else words[place]
        reason = _fault(row, word) or _repeat(row, seen)
        if reason:
            faults.setdefault(reason, []).append(row.name)
        else:
            good.append(row if word is None else replace(row, role=ROLE_WORDS[word.casefold()]))
    names = {row.name for row in good}
    lost = [(reason, [row for row in of if row in names]) for reason, of in unknown]
    return Rows(
        tuple(good),
        tuple(faults.items()),
        tuple((reason, of) for reason, of in lost if of),
        tuple(name for name in table.cells if name not in used),
    )


def _further(table: Table, column: str) -> list[str]:
    """Columns of further captions: ``text_2``, ``text_3`` and so on."""
    names: list[str] = []
    while f"{column}_{len(names) + 2}" in table.cells:
        names.append(f"{column}_{len(names) + 2}")
    return names


def _rows(table: Table, found: Mapping[str, str], texts: Sequence[str]) -> Iterator[Row]:
    uses = ("reference", "target", "group", "reference_group", "category")
    cells = [table.texts(found.get(use, "")) for use in uses]
    captions = [table.cells[name] for name in texts]
    for place, name in enumerate(table.rows):
        reference, target, group, reference_group, category = (one[place] for one in cells)
        lists = [
            cell if isinstance(cell := column[place], tuple) else (text_of(cell),)
            for column in captions
        ]
        yield Row(
            name,
            reference,
            target,
            tuple(text for each in lists for text in each if text),
            group=group,
            reference_group=reference_group,
            category=category,
        )


def _ids(
    rows: Sequence[Row], pictures: PictureNames
) -> tuple[dict[str, str], list[tuple[str, Sequence[str]]]]:
    """The picture id of each name, a path for one without a picture; and what is wrong."""
    rows_of: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, _ in row.pictures():
            if name:
                rows_of.setdefault(name, {})[row.name] = None
    ids = {name: pictures.ids(name) for name in rows_of}
    wrong = {name: list(rows_of[name]) for name, found in ids.items() if len(found) != 1}
    known = {
        name: found[0] if len(found) == 1 else pictures.path(name) for name, found in ids.items()
    }
    return {"": "", **known}, unknown_pictures(pictures, wrong)


def _fault(row: Row, split: str | None) -> str:
    """What is wrong with a row on its own, or ""."""
    if split is not None and split.casefold() not in ROLE_WORDS:
        return f"split is '{split:.60}'" if split else "no split"
    if not row.reference:
        return "no reference"
    if not row.captions:
        return "no text"
    blind = split is not None and ROLE_WORDS[split.casefold()] == "test"
    return "" if row.target or blind else "no target"


def _repeat(row: Row, seen: dict[tuple[str, str, tuple[str, ...]], str]) -> str:
    """Which earlier row is the same, or ""."""
    key = (row.reference, row.target, row.captions)
    first = seen.setdefault(key, row.name)
    return "" if first == row.name else f"the same as row {first}"


def faulty_rows(where: str, reasons: Sequence[Reason], total: int, way_out: str) -> CIRError:
    """The one message on all that is wrong with the rows of a table.

    Args:
        where: The table.
        reasons: What is wrong.
        total: Number of its rows.
        way_out: What leaves such rows out.
    """
    rows = {row for _, of in reasons for row in of}
    shown = "; ".join(f"{reason}: {row_list(of)}" for reason, of in reasons[:_SHOWN])
    more = f"; and {len(reasons) - _SHOWN:,} more" if len(reasons) > _SHOWN else ""
    return CIRError(
        f"{where}: {len(rows):,} of {total:,} rows cannot be used\n{shown}{more}\n{way_out}"
    )
