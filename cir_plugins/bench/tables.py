"""The table of a suite in Markdown and on the terminal, and the README's block of all results.

``python -m cir_plugins.bench.tables README.md benchmarks/results --check`` says whether the block
in the README is what the results give; ``--write`` puts it there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cir_plugins.bench.statistics import mean_and_deviation
from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console

START, END = "<!-- results:start -->", "<!-- results:end -->"
RANDOM = "random ranking"
NONE = "–"
RANKED = ("gallery", "drop_reference")  # options of a reader that decide what is ranked
_SHORT = {"recall": "R", "any_recall": "any R", "map": "mAP", "subset_recall": "subset R"}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        header: Column heads; the first column names the row, the others hold numbers.
        rows: Cells, as many as heads.
        notes: Lines to go below it, such as what failed and why.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def measure_name(measure: str) -> str:
    """A measure as tables write it: ``any_recall@10`` is ``any R@10``."""
    kind, _, cut = measure.partition("@")
    return f"{_SHORT.get(kind, kind)}@{cut}"


def main_name(document: Mapping[str, Any]) -> str:
    """The protocol's one number in words: a main measure, or the mean of several."""
    names = " and ".join(measure_name(name) for name in document["main"])
    return f"mean of {names}" if len(document["main"]) > 1 else names


def summary(document: Mapping[str, Any]) -> Table:
    """The comparison that a ``results.json`` holds: measures in percent over the seeds.

    Columns: the main measures and those the suite shows, averaged over the splits; the difference
    to the row compared with, in points of the mean main measure, with its 95 % interval; with
    several splits the main measures of each; seconds of training and evaluation; trained
    parameters. The first line is what a random ranking is expected to reach.
    """
    lines = [row for row in document["rows"] if "error" not in row]
    averages, by_split = _columns(document, lines)
    heads = [measure_name(name) for name in averages]
    own = [f"{split} {measure_name(name)}" for split, name in by_split]
    gap = f"Δ {main_name(document)} [95 %]".replace("  ", " ")
    header = ("method", *heads, gap, *own, "seconds", "trained parameters")
    rows = []
    if document["random"]:
        chance = [_percent(document["random"].get(name)) for name in averages]
        rows.append((RANDOM, *chance, NONE, *(NONE for _ in by_split), NONE, NONE))
    for label, runs in _by_label(lines).items():
        cells = [_over_seeds([run["average"].get(name) for run in runs]) for name in averages]
        cells += [_difference(document, label)]
        cells += [
            _over_seeds([run["splits"].get(split, {}).get(name) for run in runs])
            for split, name in by_split
        ]
        seconds = f"{mean_and_deviation([run['seconds'] for run in runs])[0]:,.0f}"
        trained = f"{runs[0]['parameters']['trained']:,}"
        rows.append((label, *cells, seconds, trained))
    return Table(header, tuple(rows), tuple(_notes(document)))


def _columns(
    document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Measures of the average, and (split, measure) where there are several splits."""
    there = {name for line in lines for name in line["average"]}
    wanted = dict.fromkeys([*document["main"], *document["show"]])
    splits = dict.fromkeys(split for line in lines for split in line["splits"])
    pairs = [(split, name) for split in splits for name in document["main"]]
    return [name for name in wanted if name in there], pairs if len(splits) > 1 else []


def _by_label(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["label"], []).append(line)
    return found


def _difference(document: Mapping[str, Any], label: str) -> str:
    for entry in document["differences"]:
        if entry["label"] == label:
            gap = entry["main"]
            text = f"{_points(gap['difference'])} [{_points(gap['low'])}, {_points(gap['high'])}]"
            usual = document["rows"][0]["label"] == entry["reference"]
            return text if usual else f"{text} to {entry['reference']}"
    return NONE


def _notes(document: Mapping[str, Any]) -> list[str]:
    seeds: dict[tuple[str, str], list[str]] = {}
    for row in document["rows"]:
        if "error" in row:
            seeds.setdefault((row["label"], row["error"]), []).append(str(row["seed"]))
    failed = [
        f"failed: {label}, seed{'s' * (len(which) > 1)} {', '.join(which)}: {reason}"
        for (label, reason), which in seeds.items()
    ]
    return [*_mixed(document), *failed]


def _mixed(document: Mapping[str, Any]) -> list[str]:
    """A line for each option that decides what is ranked and differs between rows."""
    notes = []
    for option in RANKED:
        values: dict[str, dict[str, None]] = {}
        for row in document["rows"]:
            given = row.get("config", {}).get("data", {})
            if option in given:
                values.setdefault(json.dumps(given[option]), {})[row["label"]] = None
        if len(values) > 1:
            told = "; ".join(f"{value}: {', '.join(labels)}" for value, labels in values.items())
            notes.append(f"not one protocol, data.{option} differs: {told}")
    return notes


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def _points(value: float) -> str:
    # A difference that rounds to nothing has no sign.
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _over_seeds(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean, deviation = mean_and_deviation(known)
    return _percent(mean) if deviation is None else f"{_percent(mean)} ± {_percent(deviation)}"


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    rule = ("---", *("---:" for _ in table.header[1:]))
    lines = [_line(table.header), _line(rule), *(_line(row) for row in table.rows)]
    notes = [f"- {_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def print_table(table: Table, console: Console) -> None:
    """Print the table on a terminal, its notes below."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid()
    for place, head in enumerate(table.header):
        grid.add_column(Text(head), justify="right" if place else "left")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="red"))


def conditions(document: Mapping[str, Any]) -> str:
    """One line: data, seeds, hardware, versions, commit and day of a suite."""
    facts, versions = document["hardware"], document["versions"]
    runs = [row for row in document["rows"] if "error" not in row]
    data = f"{runs[0]['dataset']} ({runs[0]['protocol']})" if runs else "no finished run"
    counts = [f"{runs[0]['queries']:,} queries", f"{runs[0]['gallery']:,} images"] if runs else []
    seeds = ", ".join(str(seed) for seed in document["seeds"])
    where = facts["gpu"] or f"{facts['cpu']}, {facts['threads']} threads"
    parts = [data, *counts, f"seeds {seeds}", where, f"torch {versions['torch']}"]
    if document["commit"]:
        parts.append(f"commit {document['commit']}")
    return "; ".join([*parts, document["created"][:10]])


def readme_block(folder: Path) -> str:
    """What the README says about all ``results.json`` below a folder, in the order of their paths.

    Raises:
        CIRError: If a file cannot be read or is no result of a suite.
    """
    parts = []
    for file in sorted(folder.rglob("results.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            head = f"### `{document['suite']}` ({file.parent.relative_to(folder).as_posix()})"
            if document["suite"] == file.parent.name:
                head = f"### `{document['suite']}`"
            said = [document["description"]] if document["description"] else []
            parts += [head, *said, markdown(summary(document)).rstrip(), conditions(document)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CIRError(
                f"{file} is no result of a suite: {type(error).__name__} {error}"
            ) from error
    return "\n\n".join(parts) if parts else "No results yet."


def with_block(text: str, block: str, name: str) -> str:
    """The text with the block between the two markers.

    Raises:
        CIRError: If the markers are not there, each once and in order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise CIRError(f"{name} must hold the lines {START} and {END} once, in this order")
    before, after = text[: text.index(START)], text[text.index(END) :]
    return f"{before}{START}\n\n{block}\n\n{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the check (1: the block is out of date), or of writing (0)."""
    parser = argparse.ArgumentParser(prog="python -m cir_plugins.bench.tables")
    parser.add_argument("readme", type=Path)
    parser.add_argument("results", type=Path)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="say whether it is up to date (default)")
    mode.add_argument("--write", action="store_true", help="bring it up to date")
    given = parser.parse_args(arguments)
    try:
        old = given.readme.read_text(encoding="utf-8")
        new = with_block(old, readme_block(given.results), str(given.readme))
        if given.write:
            write_atomically(given.readme, new.encode())
    except (CIRError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if new != old and not given.write:
        sys.stderr.write(f"the results in {given.readme} are out of date: run with --write\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
