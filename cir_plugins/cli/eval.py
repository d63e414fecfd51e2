"""``cir eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_plugins.cli.doctor import Subset
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options

if TYPE_CHECKING:
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.runs.evaluation import Evaluation
    from cir_plugins.runs.protocols import ProtocolTable

Protocol = Annotated[
    str, typer.Option("--protocol", help="Preset of the reader (cir show dataset), or all.")
]
Role = Annotated[
    str,
    typer.Option("--split", help="train, val or test; if left out val, or test for a submission."),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the report here.", show_default=False)
]
Submission = Annotated[
    Path | None,
    typer.Option("--submission", help="Write files for the test server here.", show_default=False),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda or mps; if left out the run's own.", show_default=False
    ),
]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Data = "",
    root: Root = None,
    protocol: Protocol = "",
    sets: Sets = None,
    split: Role = "",
    json: Json = None,
    submission: Submission = None,
    feature_cache: FeatureCache = None,
    device: Device = "",
    subset: Subset = None,
) -> None:
    """Evaluate a run on a data set: its own where --data and --root are left out."""
    from cir_plugins.cli.submit import need_server, submit
    from cir_plugins.config.resolve import plan_reader
    from cir_plugins.errors import CIRError
    from cir_plugins.loading import load
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.runs.build import check_role
    from cir_plugins.runs.load import plan_of_run

    check_role(split or "val")
    for option, value in (("--feature-cache", feature_cache), ("--subset", subset)):
        if submission is not None and value is not None:
            raise CIRError(f"{option} is of no use with --submission; accepted: one of the two")
    options = data_options(sets)
    registry = Registry.load()
    # Checked before any weights are read.
    name = data or plan_of_run(run, registry, {}).data.name
    every = _is_every(registry, name, protocol, submission)
    plan_reader(registry, name, options, "" if every else protocol)
    if submission is not None:
        need_server(name)
    retriever = load(run, device=device, feature_cache=feature_cache, registry=registry)
    if submission is not None:
        where: dict[str, Any] = {"data": data, "root": root, "protocol": protocol}
        where |= {"options": options, "split": split or "test"}
        for file in submit(retriever, submission, **where):
            typer.echo(f"written: {file}")
        return
    role = split or "val"
    if every:
        table = retriever.evaluate_protocols(data, root, split=role, **options)
        _show_every(table, json, subset)
        return
    _show(retriever.evaluate(data, root, protocol=protocol, split=role, **options), json, subset)


def _show(evaluation: Evaluation, json: Path | None, subset: Path | None) -> None:
    """Print an evaluation and write its report, if it is of the frozen data."""
    from cir_plugins.cli.doctor import require_subset
    from cir_plugins.cli.terminal import show_report
    from cir_plugins.files import write_json

    if subset is not None and evaluation.data is not None:
        require_subset(subset, evaluation.data)
    if json is not None:
        write_json(json, evaluation.report)
    _show_changes(evaluation)
    show_report(evaluation.report, evaluation.main_measures)


def _show_every(table: ProtocolTable, json: Path | None, subset: Path | None) -> None:
    """Print the table of every protocol and write its report, if it is of the frozen data."""
    from cir_plugins.cli.doctor import require_subset
    from cir_plugins.cli.terminal import show_protocols
    from cir_plugins.files import write_json

    for evaluation in table.evaluations.values() if subset is not None else ():
        if subset is not None and evaluation.data is not None:
            require_subset(subset, evaluation.data)
    if json is not None:
        write_json(json, table.report)
    show_protocols(table)


def _is_every(registry: Registry, data: str, protocol: str, submission: Path | None) -> bool:
    """Whether every protocol is meant: ``all``, where the reader has no preset of that name."""
    from cir_plugins.errors import CIRError
    from cir_plugins.plugins.declarations import PROTOCOLS
    from cir_plugins.runs.protocols import ALL

    every = protocol == ALL and ALL not in PROTOCOLS.of(registry.factory("dataset", data))
    if every and submission is not None:
        raise CIRError("--submission is of one protocol; accepted: --protocol NAME, or none")
    return every


def _show_changes(evaluation: Evaluation) -> None:
    """Print the options in which the evaluation differs from the run's own."""
    for name, (before, after) in evaluation.changed.items():
        typer.echo(f"changed from the run: {name} {before!r} -> {after!r}")
