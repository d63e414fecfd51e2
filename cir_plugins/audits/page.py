"""The files of an audit: a page, its numbers, and the slices of every query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import cir_plugins.bench.page as bench_page
from cir_plugins.audits import plots
from cir_plugins.audits.audit import Audit
from cir_plugins.audits.measured import SHORTCUTS
from cir_plugins.audits.paraphrase import RULES
from cir_plugins.audits.pooled import ATTRIBUTE, CATEGORY, DUPLICATE, MAIN, SHORTCUT
from cir_plugins.audits.tables import MANY, Change, Row, Table
from cir_plugins.bench.page import Drawing
from cir_plugins.data.percent import percent
from cir_plugins.files import write_atomically, write_json
from cir_plugins.runs.caveats import caveats

PAGE, REPORT, MARKS = "index.html", "audit.json", "queries.json"
_FOLDERS = (Path(__file__).parent / "templates", Path(bench_page.__file__).parent / "templates")
_CHANGE_HEADS = (
    *("change", "queries", "share", "before", "after", "Δ", "95 % interval", "lost", "won"),
)


@dataclass(frozen=True)
class _Section:
    """A table as the page shows it: cells are text."""

    table: Table
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    changes: tuple[tuple[str, ...], ...]
    pictures: tuple[tuple[str, str], ...]


def write_audit(audit: Audit, out: Path) -> list[Path]:
    """The files written to a folder: page, report, and slices of every query.

    Raises:
        CIRError: If one cannot be written.
    """
    page, report, marks = out / PAGE, out / REPORT, out / MARKS
    write_json(report, audit.report)
    write_json(marks, audit.marks)
    write_atomically(page, _render(audit).encode())
    return [page, report, marks]


def _render(audit: Audit) -> str:
    environment = Environment(
        loader=FileSystemLoader(_FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawing = Drawing()
    sections = [_section(audit, table, drawing) for table in audit.tables]
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        main=" and ".join(audit.pooled.parts[0].split.main),
        headline=headline(audit),
        caveats=list(caveats(audit.report)),
        sections=sections,
        rules=RULES,
        change_heads=_CHANGE_HEADS,
        many=MANY,
        failures=drawing.failures,
    )


def headline(audit: Audit) -> list[str]:
    """The findings in sentences, each with its numbers in percent."""
    lines = []
    solved = {row.name: row for row in audit[SHORTCUT].rows}
    if solved:
        either = solved["solved by image alone or text alone"]
        lines.append(
            f"{percent(either.share, digits=1)} % of the queries have their target among the first "
            f"{audit.k} by the image alone or by the text alone; {_on_the_rest(solved)}."
        )
    for name, what in (("order", "Captions in reverse"), ("paraphrase", "Paraphrase by all rules")):
        for change in audit[name].changes[:1]:
            lines.append(
                f"{what}: {percent(change.difference, signed=True)} points of the main measure on "
                f"the {change.queries:,} queries it changes (95 % interval "
                f"{percent(change.low, signed=True)} to {percent(change.high, signed=True)}); "
                f"{percent(change.lost + change.won, digits=1)} % of them change sides at rank "
                f"{audit.k}."
            )
    rows = {row.name: row for row in audit[DUPLICATE].rows}
    twins = rows["target has a near-duplicate in the gallery"]
    same = rows["target is the reference"]
    lines.append(
        f"{twins.queries:,} queries ({percent(twins.share, digits=1)} %) have a near-duplicate of "
        f"their target in the gallery; {same.queries:,} have their reference as target."
    )
    return lines


def _on_the_rest(solved: Mapping[str, Row]) -> str:
    rest, whole = solved["solved by neither alone"], solved["all queries"].measures[MAIN]
    if not rest.queries:
        return "no query is left that needs both"
    return (
        f"on the other {rest.queries:,} the run's main measure is "
        f"{percent(rest.measures[MAIN])} %, on all {percent(whole)} %"
    )


def _section(audit: Audit, table: Table, drawing: Drawing) -> _Section:
    measures = (MAIN, *audit.pooled.measures)
    pictures: dict[str, Callable[[], str]] = _pictures(audit, table)
    return _Section(
        table,
        ("queries of", "number", "share", *measures),
        tuple(_row_cells(row, measures) for row in table.rows),
        tuple(_change_cells(change) for change in table.changes),
        tuple(drawing.pictures(pictures)),
    )


def _pictures(audit: Audit, table: Table) -> dict[str, Callable[[], str]]:
    if table.name == "rankings" and len(table.rows) > 1:
        return {"Solved by each ranking": lambda: plots.shares(_solved(audit), audit.k)}
    if table.name in (SHORTCUT, CATEGORY, ATTRIBUTE):
        return {table.title: lambda: plots.bars(table.rows, "main measure")}
    if table.name in ("order", "paraphrase"):
        return {table.title: lambda: plots.differences(table.changes)}
    if table.name == DUPLICATE:
        return {"Likeness": lambda: plots.likeness(audit.pooled, audit.near)}
    return {}


def _solved(audit: Audit) -> dict[str, float]:
    """Share of the queries that the run and each training-free ranking solve."""
    pooled = audit.pooled
    rankings = {"the run": pooled.run(), **{name: pooled.shortcut(name) for name in SHORTCUTS}}
    return {
        name: float(pooled.solved(each.ranks).double().mean()) for name, each in rankings.items()
    }


def _row_cells(row: Row, measures: tuple[str, ...]) -> tuple[str, ...]:
    mark = "*" if row.queries < MANY else ""
    means = (percent(row.measures.get(name), missing="-") for name in measures)
    return row.name, f"{row.queries:,}{mark}", percent(row.share, digits=1), *means


def _change_cells(change: Change) -> tuple[str, ...]:
    mark = "*" if change.queries < MANY else ""
    return (
        f"{change.name}: {change.says}" if change.says != change.name else change.name,
        f"{change.queries:,}{mark}",
        percent(change.share, digits=1),
        percent(change.before),
        percent(change.after),
        percent(change.difference, signed=True),
        f"{percent(change.low, signed=True)} to {percent(change.high, signed=True)}",
        percent(change.lost, digits=1),
        percent(change.won, digits=1),
    )


def summary_lines(audit: Audit) -> list[str]:
    """What the terminal shows: data, and the findings."""
    first: dict[str, Any] = audit.report
    return [
        f"{first['run']} on {first['dataset']}, protocol {first['protocol']}, "
        f"{audit.queries:,} queries",
        *caveats(first),
        *headline(audit),
    ]
