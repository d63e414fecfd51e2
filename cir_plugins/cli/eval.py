"""``cir eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options, need

ROLES = ("train", "val", "test")
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
) -> None:
    """Evaluate a run on a data set."""
    from cir_plugins.config.resolve import plan_reader
    from cir_plugins.errors import CIRError, unknown_name
    from cir_plugins.plugins.registry import Registry

    name, folder = need(data, "--data NAME"), need(root, "--root DIR")
    if split and split not in ROLES:
        raise unknown_name("role of splits", split, ROLES)
    options = data_options(sets)
    registry = Registry.load()
    reader = plan_reader(registry, name, options, protocol)
    target: dict[str, Any] = {"data": name, "root": folder}
    if submission is not None and feature_cache is not None:
        raise CIRError("--feature-cache is of no use with --submission; accepted: one of the two")
    if submission is not None:
        from cir_plugins.cli.submit import submit

        given = reader.options if protocol else options
        for file in submit(
            run, registry, submission, options=given, split=split or "test", **target
        ):
            typer.echo(f"written: {file}")
        return
    from cir_plugins.cli.terminal import show_report
    from cir_plugins.files import write_json
    from cir_plugins.runs.load import evaluate_run

    report = evaluate_run(
        run,
        registry,
        options=options,
        protocol=protocol,
        split=split or "val",
        feature_cache=feature_cache,
        **target,
    )
    if json is not None:
        write_json(json, report)
    show_report(report)
