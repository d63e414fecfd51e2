"""``cir bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cir_plugins.cli.options import FeatureCache, Root, Runs, Sets
from cir_plugins.errors import CIRError

FAILED_ROWS = 1


def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite, or a TOML file.")],
    data: Annotated[
        str, typer.Option("--data", help="Another layout than the suite's.", show_default=False)
    ] = "",
    root: Root = None,
    methods: Annotated[
        str,
        typer.Option(
            "--methods", metavar="A,B", help="Only these rows or methods.", show_default=False
        ),
    ] = "",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="0,1,2", help="Seeds of each row.", show_default=False)
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the results; runs/SUITE if left out.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda or mps.", show_default=False)
    ] = "",
    workers: Annotated[
        int | None, typer.Option("--workers", help="Loader processes.", show_default=False)
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option("--published", help="TOML of papers' numbers; the same protocol's are shown."),
    ] = None,
    sets: Sets = None,
    feature_cache: FeatureCache = None,
    runs: Runs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the rows that are done.")] = False,
) -> None:
    """Compare methods: the rows of a suite.

    Each row is trained and evaluated with each seed. Exit code 1 if a row failed.
    """
    from cir_plugins.bench.suite import read_suite
    from cir_plugins.config.toml import parse_set

    seed_list = _seeds(seeds)
    selection = read_suite(suite).pointed_at(data or None, root).only(_names(methods), seed_list)
    changes = parse_set(sets or [])
    run = _run_settings(device, workers, feature_cache)
    from rich.console import Console

    from cir_plugins.bench.page import write_page
    from cir_plugins.bench.published import read_published
    from cir_plugins.bench.runner import run_suite
    from cir_plugins.plugins.registry import Registry

    papers = read_published(published) if published else ()
    folder = out or Path("runs") / selection.name
    result = run_suite(
        selection, Registry.load(), folder, resume=resume, run=run, runs=runs, changes=changes
    )
    result.show(Console())
    typer.echo(f"page: {write_page(result, published=papers)}")
    if result.failed:
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
