"""``cir bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cir_plugins.cli.doctor import Subset, rows_of_other_data
from cir_plugins.cli.interrupt import command_of, resumable
from cir_plugins.cli.options import FeatureCache, Root, Runs, Sets
from cir_plugins.errors import CIRError

FAILED_ROWS = 1


SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite, or a TOML file.")]
OtherData = Annotated[
    str, typer.Option("--data", help="Another layout than the suite's.", show_default=False)
]
Methods = Annotated[
    str,
    typer.Option(
        "--methods", metavar="A,B", help="Only these rows or methods.", show_default=False
    ),
]
Seeds = Annotated[
    str, typer.Option("--seeds", metavar="0,1,2", help="Seeds of each entry.", show_default=False)
]
Results = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results; runs/SUITE if left out.")
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or mps.", show_default=False)
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=-1, max=256, help="Loader processes.", show_default=False),
]
PublishedFile = Annotated[
    Path | None,
    typer.Option("--published", help="TOML of papers' numbers; the same protocol's are shown."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the runs that are done.")]


def bench(
    context: typer.Context,
    suite: SuiteName,
    data: OtherData = "",
    root: Root = None,
    methods: Methods = "",
    seeds: Seeds = "",
    out: Results = None,
    device: Device = "",
    workers: Workers = None,
    published: PublishedFile = None,
    sets: Sets = None,
    feature_cache: FeatureCache = None,
    runs: Runs = None,
    resume: Resume = False,
    subset: Subset = None,
) -> None:
    """Compare methods: the entries of a suite.

    Each entry is trained and evaluated with each seed. Exit code 1 if a run failed.
    """
    from cir_plugins.bench.suite import read_suite
    from cir_plugins.config.toml import parse_set

    entries = read_suite(suite).on_data(data or None, root)
    selection = entries.only(_names(methods), _seeds(seeds))
    changes = parse_set(sets or [])
    run = _run_settings(device, workers, feature_cache)
    from cir_plugins.bench.page import write_page
    from cir_plugins.bench.published import read_published
    from cir_plugins.bench.runner import run_suite
    from cir_plugins.cli.terminal import make_console
    from cir_plugins.plugins.registry import Registry

    papers = read_published(published) if published else ()
    folder = out or Path("runs") / selection.name
    with resumable((folder, command_of(context.obj, "--resume"))):
        result = run_suite(
            selection, Registry.load(), folder, resume=resume, run=run, runs=runs, changes=changes
        )
        result.show(make_console())
        typer.echo(f"page: {write_page(result, published=papers)}")
    others = (
        rows_of_other_data(subset, [record.line() for record in result.records]) if subset else []
    )
    for line in others:
        typer.echo(f"error: {line}", err=True)
    if result.failed or others:
        raise typer.Exit(FAILED_ROWS)


def _run_settings(device: str, workers: int | None, feature_cache: Path | None) -> dict[str, Any]:
    """Settings of table ``[run]``, without those that are left out."""
    options = {"device": device, "workers": workers, "feature_cache": str(feature_cache or "")}
    return {key: value for key, value in options.items() if value not in ("", None)}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds of a comma-separated list.

    Raises:
        CIRError: If a seed is not a whole number from 0.
    """
    names = _names(text)
    if not all(name.isascii() and name.isdigit() for name in names):
        raise CIRError(f"--seeds cannot be '{text}'; accepted: whole numbers from 0, such as 0,1,2")
    return tuple(int(name) for name in names)
