"""Tables on the terminal, in plain characters."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table

from cir_plugins.data.percent import percent
from cir_plugins.runs.caveats import caveats

if TYPE_CHECKING:
    from cir_plugins.runs.protocols import ProtocolTable

_WIDE = 160


class _Console(Console):
    """A console whose reader may leave, as ``head`` does."""

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the command line, which ends as it does for any other output."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def make_console() -> Console:
    """A console on stdout that prints text as it is; wide where the output is no terminal."""
    width = None if sys.stdout.isatty() else _WIDE
    return _Console(width=width, markup=False, highlight=False, emoji=False)


def plain_table(*columns: str) -> Table:
    """An empty table without lines."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def show_report(report: Mapping[str, Any], main: Sequence[str] = ()) -> None:
    """Print the measures of each split and their average, in percent.

    Args:
        report: The JSON object of an evaluation.
        main: Measures whose mean is the protocol's one number: these come first.
    """
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
    if len(main) > 1:
        means = (percent(sum(each[name] for name in main) / len(main)) for each in values)
        table.add_row(f"mean of {' and '.join(main)}", *means)
    for measure in dict.fromkeys([*main, *_measures(list(splits.values()))]):
        table.add_row(measure, *(percent(each.get(measure)) for each in values))
    console.print(table)
    console.print(f"{report['queries']:,} queries, {report['gallery']:,} gallery images")
    if "data" in report:
        console.print(f"data: fingerprint {report['data']['fingerprint']}")
    for line in (*_faults(report), *caveats(report)):
        console.print(line)


def show_protocols(table: ProtocolTable) -> None:
    """Print a row for each protocol, in percent, and what is not comparable."""
    from cir_plugins.runs.protocols import CAUTION

    console = make_console()
    console.print(f"{table.dataset}, every protocol, percent")
    grid = plain_table(*table.header)
    for column in grid.columns[4:]:
        column.justify = "right"
    for row in table.rows:
        grid.add_row(*row)
    console.print(grid)
    console.print(CAUTION)
    for line in table.notes:
        console.print(line)
    record = next(iter(table.values())).record
    if record is not None:
        console.print(f"checkpoint {record.checkpoint}; {record.models}; {record.ties}")


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    """Lines on relevance suppression and semantic confusion, where there are such queries."""
    found = report.get("faults", {})
    if "suppression" in found:
        numbers = found["suppression"]
        yield (
            f"suppression: of {numbers['queries']:,} queries with further positives, R@10 of the "
            f"target {percent(numbers['marked_recall'])}, of the others "
            f"{percent(numbers['unmarked_recall'])}; mean rank {numbers['marked_rank']:.1f} and "
            f"{numbers['unmarked_rank']:.1f}"
        )
    if "confusion" in found:
        numbers = found["confusion"]
        yield (
            f"confusion: of {numbers['pairs']:,} pairs of changes of one reference, own target "
            f"preferred {percent(numbers['own_target'])}; cosine of the queries "
            f"{numbers['query_similarity']:.2f}, of the targets {numbers['target_similarity']:.2f}"
        )


def _measures(splits: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for values in splits for name in values))
