"""Numbers that papers print, with their source and protocol, and whether their averages follow.

``python -m cir_plugins.bench.published [benchmarks/published.toml]`` lists the printed averages
that do not follow from the columns printed beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cir_plugins.config.records import Record, read_record
from cir_plugins.errors import CIRError
from cir_plugins.files import read_toml
from cir_plugins.plugins.options import Accepted

DEFAULT = Path("benchmarks/published.toml")
# Room for the rounding of binary floats, far below half a unit of any printed digit.
_FLOAT = 1e-9

Percent = Annotated[float, Field(ge=0, le=100)]
Column = Annotated[
    str,
    Field(
        pattern=r"^(?:[a-z][a-z0-9_]*\.)?(?:recall|any_recall|subset_recall|map)@[1-9]\d*$",
    ),
    Accepted(
        "a measure such as recall@10, subset_recall@1 or map@5, a category before it where there "
        "is one: dress.recall@10"
    ),
]


class Average(Record):
    """A printed average."""

    name: str
    """What it is of: a measure such as ``recall@10``, or ``overall``."""
    value: Percent
    """In percent, as printed."""
    of: tuple[str, ...] = ()
    """The columns it is the mean of; empty where the source names none."""


class Published(Record):
    """What one source prints for one method on one data set under one protocol."""

    id: str
    """Unique in the file."""
    method: str
    """The method's name here, such as ``clip4cir``."""
    dataset: Literal["fashioniq", "cirr", "circo"]
    """The data set."""
    split: Literal["val", "test1", "test", "unstated"]
    """Whose queries: ``val``, ``test1`` or ``test``; ``unstated`` as for the gallery."""
    gallery: Literal["original", "val", "merged", "test1", "test", "unstated"]
    """What is ranked: FashionIQ's ``original``, ``val`` or ``merged``; the split's name elsewhere;
    ``unstated`` where the source does not state it."""
    reference: Literal["kept", "removed", "unstated"]
    """Whether a query's reference image is ranked too."""
    captions: str
    """How captions become a text, in the words of the data set's reader."""
    source: str
    """Where the numbers are printed."""
    backbone: str
    """Backbone of the numbers."""
    verified: bool
    """Whether the numbers were read in the source; False where noted from memory."""
    printed_by: Literal["own", "others"] = "own"
    """``others`` where the source is not the method's own paper: quoted there, or run again."""
    zero_shot: bool = False
    """Whether the method trains on no triplet of the data set."""
    table: str = ""
    """Which table, or "" where that is unknown."""
    columns: dict[Column, Percent] = Field(default_factory=dict)
    """Measure, with its category where there is one -> percent as printed."""
    averages: tuple[Average, ...] = ()
    """Averages printed beside them."""
    columns_of: str = ""
    """Entry in which columns are looked up that this one does not print."""
    digits: Annotated[int, Field(ge=0)] = 2
    """Digits behind the point."""
    note: str = ""
    """What a reader should see."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.id and self.method and self.source and (self.columns or self.averages)):
            raise ValueError("needs an id, a method, a source, and columns or averages")
        return self


@dataclass(frozen=True)
class Mismatch:
    """A printed average that does not follow from its columns.

    Attributes:
        entry: Where it is printed.
        average: The average.
        expected: Mean of the columns, in percent.
    """

    entry: Published
    average: Average
    expected: float

    def __str__(self) -> str:
        printed, digits = self.average.value, self.entry.digits
        return (
            f"{self.entry.id}: {self.average.name} is printed as {printed:.{digits}f}, its "
            f"{len(self.average.of)} columns average {self.expected:.{digits}f} "
            f"({printed - self.expected:+.{digits}f})"
        )


def read_published(path: Path = DEFAULT) -> tuple[Published, ...]:
    """The entries of a file, in its order.

    Raises:
        CIRError: If the file cannot be read or an entry is wrong; names the entry.
    """
    content = read_toml(path, "file of published numbers")
    rows = content.pop("entry", None)
    if content or not isinstance(rows, list) or not rows:
        others = ", ".join(content) or "none"
        raise CIRError(f"{path} must hold tables [[entry]] and nothing else; found: {others}")
    entries = [_entry(path, number, table) for number, table in enumerate(rows, 1)]
    by_id = {entry.id: entry for entry in entries}
    if len(by_id) != len(entries):
        ids = [entry.id for entry in entries]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise CIRError(f"{path}: several entries are called {', '.join(twice)}")
    for entry in entries:
        _check_links(path, entry, by_id)
    return tuple(entries)


def _entry(path: Path, number: int, table: Any) -> Published:
    if not isinstance(table, dict):
        raise CIRError(f"entry {number} of {path} cannot be {table!r}; accepted: a table [[entry]]")
    return read_record(
        Published, table, f"entry {number} ({table.get('id') or 'without id'}) of {path}"
    )


def _check_links(path: Path, entry: Published, by_id: Mapping[str, Published]) -> None:
    if entry.columns_of:
        other = by_id.get(entry.columns_of)
        if other is None:
            raise CIRError(f"{path}: {entry.id}: no entry is called '{entry.columns_of}'")
        mine = (entry.method, entry.dataset, entry.split)
        if mine != (other.method, other.dataset, other.split):
            raise CIRError(f"{path}: {entry.id} takes columns of {other.id}, another comparison")
    columns = _columns_for(entry, by_id)
    for average in entry.averages:
        others = [name for name in columns if name != average.name]
        unexpected = [name for name in average.of if name not in others]
        if unexpected:
            raise CIRError(
                f"{path}: {entry.id}: {average.name} is printed as the mean of "
                f"{', '.join(unexpected)}, which is not printed; accepted: {', '.join(others)}"
            )


def _columns_for(entry: Published, by_id: Mapping[str, Published]) -> dict[str, tuple[float, int]]:
    """Columns and averages an entry may refer to, its own first: percent and digits by name."""
    columns: dict[str, tuple[float, int]] = {}
    for holder in (entry, by_id.get(entry.columns_of)):
        if holder is not None:
            printed = {mean.name: mean.value for mean in holder.averages} | holder.columns
            columns = {name: (value, holder.digits) for name, value in printed.items()} | columns
    return columns


def mismatches(entries: Sequence[Published]) -> tuple[Mismatch, ...]:
    """The printed averages that their columns cannot round to.

    Columns and average may each be off by half a unit of their last digit; more is a mismatch.
    """
    by_id = {entry.id: entry for entry in entries}
    wrong = []
    for entry in entries:
        columns = _columns_for(entry, by_id)
        for average in entry.averages:
            if not average.of:
                continue
            values = [columns[name][0] for name in average.of]
            expected = sum(values) / len(values)
            halves = [0.5 * 10.0 ** -columns[name][1] for name in average.of]
            room = 0.5 * 10.0**-entry.digits + sum(halves) / len(halves)
            if abs(average.value - expected) > room + _FLOAT:
                wrong.append(Mismatch(entry, average, expected))
    return tuple(wrong)


def comparable(
    entries: Sequence[Published], dataset: str, split: str, gallery: str, *, drop_reference: bool
) -> tuple[Published, ...]:
    """The entries of one protocol: same queries, same gallery, same rule for the reference.

    Entries whose source does not state these are never among them. The caption rule may differ,
    since it is the method's own: show ``captions`` beside the numbers.
    """
    reference = "removed" if drop_reference else "kept"
    protocol = (dataset, split, gallery, reference)
    return tuple(
        entry
        for entry in entries
        if (entry.dataset, entry.split, entry.gallery, entry.reference) == protocol
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """List the averages that do not follow; 0, or 2 if the file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m cir_plugins.bench.published")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    path: Path = parser.parse_args(arguments).file
    try:
        entries = read_published(path)
    except CIRError as error:
        print(error, file=sys.stderr)
        return 2
    wrong = mismatches(entries)
    checked = sum(bool(average.of) for entry in entries for average in entry.averages)
    unverified = sum(not entry.verified for entry in entries)
    print(
        f"{len(entries)} entries, {unverified} of them not verified; "
        f"{len(wrong)} of {checked} printed averages do not follow from their columns"
    )
    for mismatch in wrong:
        print(mismatch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
