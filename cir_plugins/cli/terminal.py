"""Tables on the terminal, in plain characters."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDE = 160


def make_console() -> Console:
    """A console on stdout that prints text as it is; wide where the output is no terminal."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(width=width, markup=False, highlight=False, emoji=False)


def plain_table(*columns: str) -> Table:
    """An empty table without lines."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def show_report(report: Mapping[str, Any]) -> None:
    """Print the measures of each split and their average, in percent."""
    splits: Mapping[str, Mapping[str, float]] = report.get("splits", {})
    console = make_console()
    if not splits:
        console.print("nothing was evaluated: the data set has no split to evaluate on")
        return
    console.print(f"{report['dataset']}, protocol {report['protocol'] or 'default'}, percent")
    columns = [*splits, *(["average"] if len(splits) > 1 else [])]
    table = plain_table("measure", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    values = [*splits.values(), *([report["average"]] if len(splits) > 1 else [])]
    for measure in _measures(list(splits.values())):
        table.add_row(measure, *(_percent(split.get(measure)) for split in values))
    console.print(table)
    console.print(f"{report['queries']:,} queries, {report['gallery']:,} gallery images")


def _measures(splits: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for values in splits for name in values))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
