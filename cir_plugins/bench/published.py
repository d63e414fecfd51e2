"""Numbers that papers print, with their source and protocol, and whether their averages follow.

``python -m cir_plugins.bench.published [benchmarks/published.toml]`` lists the printed averages
that do not follow from the columns printed beside them.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.plugins.options import convert

DEFAULT = Path("benchmarks/published.toml")
_MEASURE = re.compile(r"(?:[a-z][a-z0-9_]*\.)?(?:recall|any_recall|subset_recall|map)@[1-9]\d*")
# Room for the rounding of binary floats, far below half a unit of any printed digit.
_FLOAT = 1e-9

T = TypeVar("T")


@dataclass(frozen=True)
class Average:
    """A printed average.

    Attributes:
        name: What it is of: a measure such as ``recall@10``, or ``overall``.
        value: In percent, as printed.
        of: The columns it is the mean of; empty where the source names none.
    """

    name: str
    value: float
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """What one source prints for one method on one data set under one protocol.

    Attributes:
        id: Unique in the file.
        method: The method's name here, such as ``clip4cir``.
        dataset: The data set.
        split: Whose queries: ``val``, ``test1`` or ``test``; ``unstated`` as for the gallery.
        gallery: What is ranked: FashionIQ's ``original``, ``val`` or ``merged``; the split's name
            elsewhere; ``unstated`` where the source does not tell.
        reference: Whether a query's reference image is ranked too.
        captions: How captions become a text, in the words of the data set's reader.
        source: Where the numbers are printed.
        table: Which table, or "" where that is not known.
        backbone: What the numbers were made with.
        verified: Whether the numbers were read in the source; False where noted from memory.
        columns: Measure, with its category where there is one -> percent as printed.
        averages: Averages printed beside them.
        columns_of: Entry in which columns are looked up that this one does not print.
        digits: Digits behind the point.
        note: What a reader should know.
    """

    id: str
    method: str
    dataset: Literal["fashioniq", "cirr", "circo"]
    split: Literal["val", "test1", "test", "unstated"]
    gallery: Literal["original", "val", "merged", "test1", "test", "unstated"]
    reference: Literal["kept", "removed", "unstated"]
    captions: str
    source: str
    backbone: str
    verified: bool
    table: str = ""
    columns: Mapping[str, float] = field(default_factory=dict)
    averages: tuple[Average, ...] = ()
    columns_of: str = ""
    digits: int = 2
    note: str = ""


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
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CIRError(f"published numbers {path} cannot be read: {error}") from error
    listed = content.pop("entry", None)
    if content or not isinstance(listed, list) or not listed:
        found = ", ".join(content) or "none"
        raise CIRError(f"{path} must hold tables [[entry]] and nothing else; found: {found}")
    entries = [_entry(path, number, table) for number, table in enumerate(listed, 1)]
    by_id = {entry.id: entry for entry in entries}
    if len(by_id) != len(entries):
        ids = [entry.id for entry in entries]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise CIRError(f"{path}: several entries are called {', '.join(twice)}")
    for entry in entries:
        _check_links(path, entry, by_id)
    return tuple(entries)


def _entry(path: Path, number: int, table: Any) -> Published:
    name = table.get("id", "") if isinstance(table, dict) else ""
    where = f"entry {number} ({name or 'without id'}) of {path}"
    if not isinstance(table, dict):
        raise CIRError(f"{where} is no table")
    listed = table.get("averages", [])
    if not isinstance(listed, list) or not all(isinstance(part, dict) for part in listed):
        raise CIRError(f"averages of {where} must be a list of tables with name, value and of")
    averages = tuple(_filled(Average, f"an average of {where}", part) for part in listed)
    columns = table.get("columns", {})
    if not isinstance(columns, dict):
        raise CIRError(f"columns of {where} must be a table: measure = percent")
    plain = {key: value for key, value in table.items() if key not in ("averages", "columns")}
    entry = _filled(Published, where, plain, columns=_percents(where, columns), averages=averages)
    _percents(where, {f"average {part.name}": part.value for part in averages}, measures=False)
    if not (entry.id and entry.method and entry.source and (entry.columns or entry.averages)):
        raise CIRError(f"{where} needs an id, a method, a source, and columns or averages")
    if entry.digits < 0:
        raise CIRError(f"digits of {where} must be at least 0, not {entry.digits}")
    return entry


def _filled(kind: type[T], where: str, table: Mapping[str, Any], **made: Any) -> T:
    """A record of a table's values, each of the type its field has."""
    hints, known = get_type_hints(kind), {part.name: part for part in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise CIRError(f"{where}: {unknown_name('key', key, known)}")
    missing = [
        name
        for name, part in known.items()
        if name not in table
        and name not in made
        and part.default is MISSING
        and part.default_factory is MISSING
    ]
    if missing:
        raise CIRError(f"{where} lacks: {', '.join(missing)}")
    values = {key: convert(f"{key} of {where}", hints[key], value) for key, value in table.items()}
    return kind(**values, **made)


def _percents(where: str, values: Mapping[str, Any], *, measures: bool = True) -> dict[str, float]:
    for name, value in values.items():
        if measures and not _MEASURE.fullmatch(name):
            raise CIRError(
                f"column '{name}' of {where} is no measure; accepted: recall@10, "
                "subset_recall@1, map@5 and so on, a category may stand before: dress.recall@10"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 100:
            raise CIRError(f"'{name}' of {where} must be a percentage from 0 to 100, not {value!r}")
    return {name: float(value) for name, value in values.items()}


def _check_links(path: Path, entry: Published, by_id: Mapping[str, Published]) -> None:
    if entry.columns_of:
        other = by_id.get(entry.columns_of)
        if other is None:
            raise CIRError(f"{path}: {entry.id}: no entry is called '{entry.columns_of}'")
        mine = (entry.method, entry.dataset, entry.split)
        if mine != (other.method, other.dataset, other.split):
            raise CIRError(f"{path}: {entry.id} takes columns of {other.id}, another comparison")
    known = _columns_for(entry, by_id)
    for average in entry.averages:
        others = [name for name in known if name != average.name]
        strange = [name for name in average.of if name not in others]
        if strange:
            raise CIRError(
                f"{path}: {entry.id}: {average.name} is said to be of {', '.join(strange)}, which "
                f"is not printed; accepted: {', '.join(others)}"
            )


def _columns_for(entry: Published, by_id: Mapping[str, Published]) -> dict[str, tuple[float, int]]:
    """Columns and averages an entry may refer to, its own first: percent and digits by name."""
    found: dict[str, tuple[float, int]] = {}
    for holder in (entry, by_id.get(entry.columns_of)):
        if holder is not None:
            printed = {part.name: part.value for part in holder.averages} | dict(holder.columns)
            found = {name: (value, holder.digits) for name, value in printed.items()} | found
    return found


def mismatches(entries: Sequence[Published]) -> tuple[Mismatch, ...]:
    """The printed averages that their columns cannot round to.

    Columns and average may each be off by half a unit of their last digit; more is a mismatch.
    """
    by_id = {entry.id: entry for entry in entries}
    found = []
    for entry in entries:
        known = _columns_for(entry, by_id)
        for average in entry.averages:
            if not average.of:
                continue
            values = [known[name][0] for name in average.of]
            expected = sum(values) / len(values)
            halves = [0.5 * 10.0 ** -known[name][1] for name in average.of]
            room = 0.5 * 10.0**-entry.digits + sum(halves) / len(halves)
            if abs(average.value - expected) > room + _FLOAT:
                found.append(Mismatch(entry, average, expected))
    return tuple(found)


def comparable(
    entries: Sequence[Published], dataset: str, split: str, gallery: str, *, drop_reference: bool
) -> tuple[Published, ...]:
    """The entries of one protocol: same queries, same gallery, same rule for the reference.

    Entries whose source does not state these are never among them. The caption rule may differ,
    since it is the method's own: show ``captions`` beside the numbers.
    """
    reference = "removed" if drop_reference else "kept"
    wanted = (dataset, split, gallery, reference)
    return tuple(
        entry
        for entry in entries
        if (entry.dataset, entry.split, entry.gallery, entry.reference) == wanted
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
