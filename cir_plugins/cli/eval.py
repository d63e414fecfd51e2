"""``cir eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.doctor import Subset
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options

if TYPE_CHECKING:
    from cir_plugins.runs.evaluation import Evaluation

Protocol = Annotated[
    str, typer.Option("--protocol", help="Preset of the reader's switches (cir show dataset).")
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
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.retriever import load
    from cir_plugins.runs.build import check_role
    from cir_plugins.runs.load import plan_of_run

    check_role(split or "val")
    if submission is not None and feature_cache is not None:
        raise CIRError("--feature-cache is of no use with --submission; accepted: one of the two")
    options = data_options(sets)
    registry = Registry.load()
    # Checked before any weights are read.
    name = data or plan_of_run(run, registry, {}).data.name
    plan_reader(registry, name, options, protocol)
    if submission is not None:
        need_server(name)
    retriever = load(run, device=device, feature_cache=feature_cache, registry=registry)
    if submission is not None:
        for file in submit(
            retriever,
            submission,
            data=data,
            root=root,
            protocol=protocol,
            options=options,
            split=split or "test",
        ):
            typer.echo(f"written: {file}")
        return
    evaluation = retriever.evaluate(data, root, protocol=protocol, split=split or "val", **options)
    _show(evaluation, subset, json)


def _show(evaluation: Evaluation, subset: Path | None, json: Path | None) -> None:
    """Print and write the report, if the data is the frozen one.

    Raises:
        CIRError: If the data is another one.
    """
    from cir_plugins.cli.doctor import require_subset
    from cir_plugins.cli.terminal import show_report
    from cir_plugins.files import write_json

    if subset is not None and evaluation.data is not None:
        require_subset(subset, evaluation.data)
    if json is not None:
        write_json(json, evaluation.report)
    _show_changes(evaluation)
    show_report(evaluation.report, evaluation.main_measures)


def _show_changes(evaluation: Evaluation) -> None:
    """Print the options in which the evaluation differs from the run's own."""
    for name, (before, after) in evaluation.changed.items():
        typer.echo(f"changed from the run: {name} {before!r} -> {after!r}")
