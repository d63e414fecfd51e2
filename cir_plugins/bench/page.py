"""One page about a suite: the table, training curves, mined negatives, and what is retrieved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cir_plugins.bench import curves
from cir_plugins.bench.grids import grids
from cir_plugins.bench.records import SuiteResult, write_text
from cir_plugins.bench.tables import RANDOM, conditions, main_name, summary

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Mining:
    """What was mined in one run.

    Attributes:
        label: Label of the row.
        refreshes: Cells per refresh, in the order of ``HEADS``.
        picture: Data URI of the histogram of score drops, or "".
    """

    label: str
    refreshes: tuple[tuple[str, ...], ...]
    picture: str


HEADS = ("epoch", "pool", "quartiles", "fallback", "empty", "false negatives", "kept")


def write_page(result: SuiteResult, out: Path | None = None) -> Path:
    """The file ``index.html`` in ``out`` (the result's folder if left out), which needs no other.

    Raises:
        CIRError: If it cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    file = (out or result.out) / "index.html"
    write_text(file, environment.get_template("page.html.j2").render(**_content(result)))
    return file


def _content(result: SuiteResult) -> dict[str, Any]:
    title = main_name(result.document)
    pictures = [
        ("Training loss per epoch", curves.loss_picture(result.finished)),
        (f"Validation {title} per epoch", curves.main_picture(result.finished, title)),
    ]
    hardware = result.document["hardware"]
    return {
        "suite": result.suite,
        "table": summary(result.document),
        "random": RANDOM,
        "conditions": conditions(result.document),
        "hardware": hardware,
        "versions": result.document["versions"],
        "commit": result.document["commit"],
        "created": result.document["created"],
        "main": title,
        "several_seeds": len(result.suite.seeds) > 1,
        "pictures": [(text, picture) for text, picture in pictures if picture],
        "mining_heads": HEADS,
        "mining": list(_mining(result)),
        "grids": grids(result.finished, result.splits),
    }


def _mining(result: SuiteResult) -> Iterator[Mining]:
    """What the runs of the first seed mined; the other seeds look alike."""
    for record in result.finished:
        if record.seed != result.suite.seeds[0]:
            continue
        refreshes = [line for line in record.curve if "mining" in line]
        if refreshes:
            yield Mining(
                record.label,
                tuple(_refresh(line["epoch"], line["mining"]) for line in refreshes),
                curves.drop_picture(refreshes),
            )


def _refresh(epoch: int, report: dict[str, Any]) -> tuple[str, ...]:
    pool = report["pool"]
    return (
        str(epoch + 1),
        f"{pool['mean']:,.0f}",
        " / ".join(f"{value:,.0f}" for value in pool["quartiles"]),
        _share(report, "fallback"),
        _share(report, "empty"),
        _share(report, "false_negatives"),
        _share(report, "kept"),
    )


def _share(report: dict[str, Any], name: str) -> str:
    return f"{100 * report[name]:.1f} %" if name in report else "–"
