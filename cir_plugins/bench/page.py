"""The page of a suite: table, training curves, mined negatives, and retrieved images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cir_plugins.bench import curves
from cir_plugins.bench.grids import Grid, grids
from cir_plugins.bench.published import Published, comparable
from cir_plugins.bench.records import RunRecord, SuiteResult, one_line, write_text
from cir_plugins.bench.sampler_picture import sampler_svg
from cir_plugins.bench.sampling import HEADS, SamplerReport, negatives_per_query, sampler_report
from cir_plugins.bench.tables import RANDOM, caption, conditions, main_name, summary

_TEMPLATES = Path(__file__).parent / "templates"
_LOG = logging.getLogger(__name__)
V = TypeVar("V")


@dataclass(frozen=True)
class Mining:
    """Mined negatives of one run.

    Attributes:
        label: Label of the suite entry.
        report: Its refreshes and alarms.
        picture: Data URI of its picture.
    """

    label: str
    report: SamplerReport
    picture: str


def write_page(
    result: SuiteResult, out: Path | None = None, published: Sequence[Published] = ()
) -> Path:
    """The file ``index.html`` in ``out`` (the result's folder if left out), which needs no other.

    Args:
        result: The result of the suite.
        out: Folder of the page.
        published: Numbers of papers; those of the same protocol get a separate table, so that they
            are never mixed with measured ones.

    Raises:
        CIRError: If it cannot be written.
    """
    file = (out or result.out) / "index.html"
    write_text(file, _render("page.html.j2", _content(result, published)))
    return file


def write_run_page(
    file: Path, title: str, curve: Sequence[Mapping[str, Any]], report: SamplerReport
) -> None:
    """A page about one run: its training curves and its mined negatives.

    Args:
        file: Where the page goes; it needs no other file.
        title: Heading, such as the method's name.
        curve: Lines of ``metrics.jsonl``.
        report: Its mined negatives.

    Raises:
        CIRError: If it cannot be written.
    """
    record = RunRecord(title, title, 0, curve=tuple(curve))
    drawing = Drawing()
    pictures = {
        "Training loss per epoch": lambda: curves.loss_picture([record]),
        "Validation, main measure per epoch": lambda: curves.main_picture([record], "main measure"),
    }
    content = {
        "title": title,
        "pictures": drawing.pictures(pictures),
        "mining_heads": HEADS,
        "mining": [_mining(title, report, drawing)] if report.lines else [],
        "failures": drawing.failures,
    }
    write_text(file, _render("run.html.j2", content))


def _render(template: str, content: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _content(result: SuiteResult, published: Sequence[Published]) -> dict[str, Any]:
    title = main_name(result.document)
    drawing = Drawing()
    no_grids: list[Grid] = []
    pictures = {
        "Training loss per epoch": lambda: curves.loss_picture(result.finished),
        f"Validation {title} per epoch": lambda: curves.main_picture(result.finished, title),
    }
    hardware = result.document["hardware"]
    return {
        "suite": result.suite,
        "table": summary(result.document),
        "random": RANDOM,
        "caption": caption(result.document),
        "conditions": conditions(result.document),
        "hardware": hardware,
        "versions": result.document["versions"],
        "commit": result.document["commit"],
        "created": result.document["created"],
        "main": title,
        "several_seeds": len(result.suite.seeds) > 1,
        "pictures": drawing.pictures(pictures),
        "mining_heads": HEADS,
        "mining": list(_mining_of(result, drawing)),
        "published": _published(result, published),
        "grids": drawing.draw(
            "Retrieved images", lambda: grids(result.finished, result.splits), no_grids
        ),
        "failures": drawing.failures,
    }


def _published(result: SuiteResult, entries: Sequence[Published]) -> list[tuple[str, ...]]:
    """Method, backbone, numbers, captions and source of the entries of the same protocol."""
    if not result.splits:
        return []
    first, data = result.splits[0], result.suite.data
    gallery = str(data.get("gallery", "original" if data["name"] == "fashioniq" else "val"))
    same = comparable(entries, data["name"], "val", gallery, drop_reference=first.drop_reference)
    rows: list[tuple[str, ...]] = []
    for entry in same:
        columns = {**entry.columns, **{f"mean {mean.name}": mean.value for mean in entry.averages}}
        numbers = ", ".join(f"{name} {value:.{entry.digits}f}" for name, value in columns.items())
        source = entry.source + ("" if entry.verified else " (not verified)")
        rows.append((entry.method, entry.backbone, numbers, entry.captions, source))
    return rows


class Drawing:
    """Pictures of a page; one that cannot be drawn is left out with a note.

    Attributes:
        failures: A sentence for each picture that is left out.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []

    def draw(self, title: str, make: Callable[[], V], empty: V) -> V:
        """The value of ``make``, or ``empty`` where it fails."""
        try:
            return make()
        except Exception as error:
            # A page may come after hours of training, and drawing libraries raise anything.
            self.failures.append(f"left out, cannot be drawn: {title} ({one_line(error)})")
            _LOG.warning(self.failures[-1])
            return empty

    def pictures(self, makers: Mapping[str, Callable[[], str]]) -> list[tuple[str, str]]:
        """Titles and data URIs of the pictures that are not empty."""
        results = [(title, self.draw(title, make, "")) for title, make in makers.items()]
        return [(title, picture) for title, picture in results if picture]


def _mining(label: str, report: SamplerReport, drawing: Drawing) -> Mining:
    picture = drawing.draw(f"Mined negatives of {label}", lambda: sampler_svg(report), "")
    return Mining(label, report, picture)


def _mining_of(result: SuiteResult, drawing: Drawing) -> Iterator[Mining]:
    """Mined negatives of the runs of the first seed; the other seeds look alike."""
    for record in result.finished:
        if record.seed != result.suite.seeds[0]:
            continue
        report = sampler_report(record.curve, negatives_per_query(record.config))
        if report.lines:
            several = len(result.suite.seeds) > 1
            label = f"{record.label}, seed {record.seed}" if several else record.label
            yield _mining(label, report, drawing)
