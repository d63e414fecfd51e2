"""Result tables of a suite on the terminal, in Markdown, and between the markers of a document.

``python -m cir_plugins.bench.tables FILE... RESULTS --check`` compares the tables in the documents
with the results; ``--write`` brings them up to date. A start marker may name one result and some of
its rows:

    <!-- results:start -->                             every result, with headings
    <!-- results:start all/garments -->                one result
    <!-- results:start all/garments: dqe, sprc -->     some rows of it
    <!-- results:start photos/audits.md -->            a file of tables that a benchmark wrote
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cir_plugins.bench.statistics import mean_and_deviation
from cir_plugins.bench.stored import check_document
from cir_plugins.bench.table_notes import table_notes
from cir_plugins.data.percent import percent
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.files import read_json, read_text, write_atomically
from cir_plugins.retrieval.faults import measure_or_fault

if TYPE_CHECKING:
    from rich.console import Console

END = "<!-- results:end -->"
_START = re.compile(r"<!-- results:start( [^>]*)? -->")
RANDOM = "random ranking"
NONE = "–"
_SHORT = {
    **{"recall": "R", "any_recall": "any R", "map": "mAP", "subset_recall": "subset R"},
    **{"marked_recall": "marked R", "unmarked_recall": "unmarked R", "own_target": "own target"},
}


_MEANINGS = {
    "map": "mAP@k: average precision over all positives.",
    "recall": "R@k: the annotated target is among the first k.",
    "any_recall": "any R@k: any positive is.",
    "unmarked_recall": "unmarked R@k: share of the positives beside the target that are.",
    "own_target": "own target: of two changes of one reference, how often each prefers its own.",
}


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
    kind, at, cut = measure.partition("@")
    return f"{_SHORT.get(kind, kind)}{at}{cut}"


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
    split_heads = [f"{split} {measure_name(name)}" for split, name in by_split]
    gap = f"Δ {main_name(document)} [95 %]".replace("  ", " ")
    header = ("method", *heads, gap, *split_heads, "seconds", "trained parameters")
    rows = []
    if document["random"]:
        expected = [_cell(document["random"].get(name)) for name in averages]
        rows.append((RANDOM, *expected, NONE, *(NONE for _ in by_split), NONE, NONE))
    for label, runs in _by_label(lines).items():
        values = ([measure_or_fault(run, name) for run in runs] for name in averages)
        cells = [_over_seeds(each) for each in values]
        cells += [_difference(document, label)]
        cells += [
            _over_seeds([run["splits"].get(split, {}).get(name) for run in runs])
            for split, name in by_split
        ]
        seconds = f"{mean_and_deviation([run['seconds'] for run in runs])[0]:,.0f}"
        trained = f"{runs[0]['parameters']['trained']:,}"
        rows.append((label, *cells, seconds, trained))
    return Table(header, tuple(rows), tuple(table_notes(document)))


def _columns(
    document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Measures of the average, and (split, measure) where there are several splits."""
    wanted = dict.fromkeys([*document["main"], *document["show"]])
    names = [n for n in wanted if any(measure_or_fault(line, n) is not None for line in lines)]
    splits = dict.fromkeys(split for line in lines for split in line["splits"])
    pairs = [(split, name) for split in splits for name in document["main"]]
    return names, pairs if len(splits) > 1 else []


def _by_label(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        runs.setdefault(line["label"], []).append(line)
    return runs


def _difference(document: Mapping[str, Any], label: str) -> str:
    for entry in document["differences"]:
        if entry["label"] == label:
            gap = entry["main"]
            text = f"{_points(gap['difference'])} [{_points(gap['low'])}, {_points(gap['high'])}]"
            usual = entry["reference"] == _usual_reference(document)
            return text if usual else f"{text} to {entry['reference']}"
    return NONE


def _cell(value: float | None) -> str:
    return percent(value, digits=1, missing=NONE)


def _points(value: float) -> str:
    # A difference that rounds to nothing has no sign.
    text = percent(value, digits=1, signed=True)
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _over_seeds(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return NONE
    mean, deviation = mean_and_deviation(numbers)
    return _cell(mean) if deviation is None else f"{_cell(mean)} ± {_cell(deviation)}"


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    rule = ("---", *("---:" for _ in table.header[1:]))
    lines = [_line(table.header), _line(rule), *(_line(row) for row in table.rows)]
    notes = [f"- {_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is; underscores within words need nothing."""
    text = re.sub(r"[\\`*|]|\](?=\()|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return text.replace("\n", " ").replace("<", "&lt;")


def print_table(table: Table, console: Console) -> None:
    """Print the table on a terminal, its notes below."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid()
    for number, head in enumerate(table.header):
        grid.add_column(Text(head), justify="right" if number else "left")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="red"))


def _usual_reference(document: Mapping[str, Any]) -> str:
    """Label of the row that differences are to where a cell names no other: the first."""
    return str(document["rows"][0]["label"])


def caption(document: Mapping[str, Any]) -> str:
    """The line that explains a table's columns: unit, measures, and the row of the differences."""
    measures = [*document["main"], *document["show"]]
    sentences = ["Percent."]
    for kind, text in _MEANINGS.items():
        if any(name.startswith(kind) for name in measures):
            sentences.append(text)
    if document.get("changed"):
        options = ", ".join(f"{name}={value}" for name, value in document["changed"].items())
        sentences.insert(0, f"The suite was changed for all rows: {options}.")
    references = {entry["reference"] for entry in document["differences"]}
    if references:
        usual = _usual_reference(document)
        rows = [f"the row `{usual}` of this table"] if usual in references else []
        if references - {usual}:
            rows.append("the row that is named beside it")
        number = main_name(document)
        number = f"the {number}" if len(document["main"]) > 1 else number
        sentences.append(
            f"Δ: points of {number} against {' or '.join(rows)}, paired bootstrap over queries."
        )
    return " ".join(sentences)


def conditions(document: Mapping[str, Any]) -> str:
    """One line: reader, protocol, counts, seeds, hardware, versions, commit and day of a suite."""
    facts, versions = document["hardware"], document["versions"]
    runs = [row for row in document["rows"] if "error" not in row]
    names = f"reader {runs[0]['dataset']}, protocol {runs[0]['protocol']}" if runs else ""
    data = names or "no finished run"
    counts = [f"{runs[0]['queries']:,} queries", f"{runs[0]['gallery']:,} images"] if runs else []
    if runs and "data" in runs[0]:
        counts.append(f"data {runs[0]['data']['fingerprint']}")
    seeds = ", ".join(str(seed) for seed in document["seeds"])
    where = facts["gpu"] or f"{facts['cpu']}, {facts['threads']} threads"
    items = [data, *counts, f"seeds {seeds}", where, f"torch {versions['torch']}"]
    if document["commit"]:
        items.append(f"commit {document['commit']}")
    return "; ".join([*items, document["created"][:10]])


def tables_of(folder: Path, result: str = "", labels: Sequence[str] = ()) -> str:
    """Results below a folder in Markdown: one of them, some rows of it, or all with headings.

    Raises:
        CIRError: If a file cannot be read or is no result of a suite, or a row is not in it.
    """
    if result.endswith(".md"):
        return read_text(folder / result).strip()
    if result:
        document = _read(folder / result / "results.json")
        return _section(document, labels)
    sections = []
    for file in sorted(folder.rglob("results.json")):
        document = _read(file)
        name = file.parent.relative_to(folder).as_posix()
        source = "" if document["suite"] == file.parent.name else f" ({name})"
        description = [document["description"]] if document["description"] else []
        sections += [f"### `{document['suite']}`{source}", *description, _section(document)]
    return "\n\n".join(sections) if sections else "No results yet."


def _read(file: Path) -> dict[str, Any]:
    try:
        return check_document(read_json(file), str(file))
    except CIRError as error:
        raise CIRError(f"{file} is no result of a suite: {error}") from error


def _section(document: Mapping[str, Any], labels: Sequence[str] = ()) -> str:
    """The table of a result with its caption and its conditions."""
    table = summary(document)
    rows = {row[0]: row for row in table.rows}
    for label in labels:
        if label not in rows:
            raise unknown_name(f"row of suite '{document['suite']}'", label, rows)
    if labels:
        shown = [row for row in document["rows"] if row["label"] in labels]
        notes = table_notes({**document, "rows": shown})
        table = Table(table.header, tuple(rows[label] for label in labels), tuple(notes))
    return "\n\n".join([markdown(table).rstrip(), caption(document), conditions(document)])


def with_tables(text: str, results: Path, name: str) -> str:
    """The text of a document with the tables between its markers as the results give them.

    Raises:
        CIRError: If no start marker is there, one has no end, or two are the same.
    """
    starts = list(_START.finditer(text))
    markers = [marker.group() for marker in starts]
    if not markers or len(set(markers)) < len(markers) or text.count(END) != len(markers):
        raise CIRError(f"{name} must hold pairs of <!-- results:start --> and {END}, each once")
    pieces: list[str] = []
    end = 0
    for marker, following in zip(starts, [*starts[1:], None], strict=True):
        stop = text.find(END, marker.end(), following.start() if following else len(text))
        if stop < 0:
            raise CIRError(f"{name}: {marker.group()} has no {END} before the next table")
        result, _, rows = (marker.group(1) or "").partition(":")
        labels = [label.strip() for label in rows.split(",") if label.strip()]
        block = tables_of(results, result.strip(), labels)
        pieces += [text[end : marker.end()], f"\n\n{block}\n\n"]
        end = stop
    return "".join([*pieces, text[end:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the check (1: tables are out of date), or of writing (0)."""
    parser = argparse.ArgumentParser(prog="python -m cir_plugins.bench.tables")
    parser.add_argument("documents", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="compare only (the default)")
    mode.add_argument("--write", action="store_true", help="bring the tables up to date")
    options = parser.parse_args(arguments)
    outdated = []
    try:
        for file in options.documents:
            old = read_text(file)
            new = with_tables(old, options.results, str(file))
            if new != old and options.write:
                write_atomically(file, new.encode())
            elif new != old:
                outdated.append(file)
    except CIRError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for file in outdated:
        sys.stderr.write(f"the results in {file} are out of date: run with --write\n")
    return int(bool(outdated))


if __name__ == "__main__":
    raise SystemExit(main())
