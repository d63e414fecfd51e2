"""The page of a suite: table, training curves, mined negatives, and retrieved images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cir_plugins.bench import curves
from cir_plugins.bench.grids import grids
from cir_plugins.bench.published import Published, comparable
from cir_plugins.bench.records import RunRecord, SuiteResult, write_text
from cir_plugins.bench.sampler_picture import sampler_svg
from cir_plugins.bench.sampling import HEADS, SamplerReport, negatives_per_query, sampler_report
from cir_plugins.bench.tables import RANDOM, conditions, main_name, summary

_TEMPLATES = Path(__file__).parent / "templates"


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
    pictures = [
        ("Training loss per epoch", curves.loss_picture([record])),
        ("Validation, main measure per epoch", curves.main_picture([record], "main measure")),
    ]
    content = {
        "title": title,
        "pictures": [(text, picture) for text, picture in pictures if picture],
        "mining_heads": HEADS,
        "mining": [Mining(title, report, sampler_svg(report))] if report.lines else [],
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
        "published": _published(result, published),
        "grids": grids(result.finished, result.splits),
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
        columns = {**entry.columns, **{f"mean {part.name}": part.value for part in entry.averages}}
        numbers = ", ".join(f"{name} {value:.{entry.digits}f}" for name, value in columns.items())
        source = entry.source + ("" if entry.verified else " (not verified)")
        rows.append((entry.method, entry.backbone, numbers, entry.captions, source))
    return rows


def _mining(result: SuiteResult) -> Iterator[Mining]:
    """Mined negatives of the runs of the first seed; the other seeds look alike."""
    for record in result.finished:
        if record.seed != result.suite.seeds[0]:
            continue
        report = sampler_report(record.curve, negatives_per_query(record.config))
        if report.lines:
            several = len(result.suite.seeds) > 1
            label = f"{record.label}, seed {record.seed}" if several else record.label
            yield Mining(label, report, sampler_svg(report))
