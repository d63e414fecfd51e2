r"""The tables that a reader of a number asks for: comparison, every protocol, and audits of runs.

    python benchmarks/audits/tables.py dqe=RUNS/dqe-seed0 dqe=RUNS/dqe-seed1 sprc=RUNS/sprc-seed0 \
      --baseline dqe --out benchmarks/results/photos

Runs of one name are seeds of one method. They are compared over all seeds; protocols and audits are
of the first. Writes ``audits.json``, every number as a fraction, and ``audits.md``, three tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cir_plugins as cir
from cir_plugins.bench import environment
from cir_plugins.bench.tables import Table, markdown
from cir_plugins.cli.compare import named_runs
from cir_plugins.data.percent import percent
from cir_plugins.files import write_atomically

_MISSING = "–"
# Heads of the columns, each with the slice of the audit that it is of.
_SLICES = {
    "image alone solves": ("shortcut", "solved by image alone"),
    "text alone solves": ("shortcut", "solved by text alone"),
    "neither solves": ("shortcut", "solved by neither alone"),
    "with negation": ("wording", "negation"),
    "without": ("wording", "no negation"),
}
_NOTE = (
    "Percent; protocols and audits are of the first seed. The columns from `image alone solves` to "
    "`without` give the share of the queries and the main measure on them. A query is solved by "
    "image or text alone if the training-free ranking with the run's own weights has its target "
    "among the first {k}. `captions reversed` and `paraphrased`: points of the main measure on the "
    "queries that change, paired bootstrap over queries. `near-duplicate`: share of the queries "
    "whose target has one in the gallery (cosine of the run's own vectors of {near:g} or more)."
)


def rows_of(report: Mapping[str, Any], table: str) -> dict[str, Mapping[str, Any]]:
    """Name -> row of a table of an audit."""
    return {row["name"]: row for row in report["tables"][table]["rows"]}


def _slice(row: Mapping[str, Any] | None) -> str:
    if row is None or "main" not in row["measures"]:
        return _MISSING
    return f"{percent(row['share'], digits=1)}: {percent(row['measures']['main'], digits=1)}"


def _change(report: Mapping[str, Any], table: str) -> str:
    changes = report["tables"][table]["changes"]
    if not changes:
        return _MISSING
    low, middle, high = (
        percent(changes[0][name], digits=1, signed=True) for name in ("low", "difference", "high")
    )
    return f"{middle} [{low}, {high}]"


def audit_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line for each method: slices, changes of the text, near-duplicates."""
    rows = []
    for name, report in reports.items():
        slices = [_slice(rows_of(report, table).get(row)) for table, row in _SLICES.values()]
        twins = rows_of(report, "duplicates").get("target has a near-duplicate in the gallery")
        rows.append(
            (
                name,
                *slices,
                _change(report, "order"),
                _change(report, "paraphrase"),
                percent(twins["share"], digits=1) if twins else "0.0",
            )
        )
    header = ("method", *_SLICES, "captions reversed", "paraphrased", "near-duplicate")
    return Table(header, tuple(rows))


def protocol_table(protocols: Mapping[str, Mapping[str, cir.Evaluation]]) -> Table:
    """A line for each preset: gallery, reference, and the one number of each method."""
    first = next(iter(protocols.values()))
    rows = []
    for preset, evaluation in first.items():
        values = [percent(table[preset].main, digits=1) for table in protocols.values()]
        record = evaluation.record
        reference = record.reference if record else _MISSING
        measures = " and ".join(evaluation.main_measures)
        rows.append((preset, f"{evaluation.gallery:,}", reference, measures, *values))
    return Table(("protocol", "images", "reference", "measure", *protocols), tuple(rows))


def documents(
    runs: Mapping[str, list[Path]], baseline: str, k: int, near: float
) -> tuple[dict[str, Any], str]:
    """Everything measured, as JSON and as Markdown."""
    comparison = cir.compare(runs, baseline)
    protocols, audits = {}, {}
    for name, (run, *_) in runs.items():
        print(f"{name}: protocols and audit of {run.name}", file=sys.stderr)
        protocols[name] = cir.load(run).evaluate_protocols()
        audits[name] = cir.audit(run, k=k, near=near).report
    content = {
        "comparison": comparison.document,
        "protocols": {
            name: {preset: each.report for preset, each in table.items()}
            for name, table in protocols.items()
        },
        "audits": audits,
        "hardware": environment.hardware(),
        "versions": environment.versions(),
        "commit": environment.commit(),
    }
    parts = [
        comparison.to_markdown().rstrip(),
        markdown(protocol_table(protocols)).rstrip(),
        markdown(audit_table(audits)).rstrip(),
        _NOTE.format(k=k, near=near),
    ]
    return content, "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the tables of the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--baseline", required=True, metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--near", type=float, default=0.95)
    options = parser.parse_args()
    try:
        content, text = documents(
            named_runs(options.runs), options.baseline, options.k, options.near
        )
    except cir.CIRError as error:
        raise SystemExit(f"error: {error}") from error
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "audits.json", f"{json.dumps(content, indent=1)}\n".encode())
    write_atomically(options.out / "audits.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
