"""What the measures of a report are not about, in words for every table of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cir_plugins.data.split import counts_in_words


def caveats(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that the measures of a report are not about.

    Args:
        report: The JSON object of an evaluation.
    """
    if "left_out" in report:
        counts = counts_in_words(report["left_out"]["total"])
        yield f"left out: {counts}; cir check names what is missing"
    if report.get("blind"):
        yield f"{report['blind']:,} further queries are blind: they have no target"
    if report.get("unreachable"):
        yield (
            f"queries with their reference as target: {report['unreachable']:,}; the protocol "
            "removes it, so that they are never hit"
        )
    if report.get("positives_across"):
        yield (
            f"positives known only across triplets, of the same reference and captions: "
            f"{report['positives_across']:,}; no measure counts them"
        )


def caveats_of_all(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Caveats of several reports, each with the names of those that have it where not all do.

    Args:
        reports: Name -> the JSON object of an evaluation.
    """
    pairs = ((name, line) for name, report in reports.items() for line in caveats(report))
    return [
        line if len(names) == len(reports) else f"{line} ({', '.join(names)})"
        for line, names in names_of_lines(pairs).items()
    ]


def names_of_lines(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Line -> the names that have it, each once, in the order of pairs of name and line."""
    names: dict[str, dict[str, None]] = {}
    for name, line in pairs:
        names.setdefault(line, {})[name] = None
    return {line: list(having) for line, having in names.items()}
