"""``cir make-data`` and ``cir check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_plugins.cli.options import Data, Root, Sets, data_options, need

FOUND_ERRORS = 1


def make_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What draws it, such as garments.")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    images: Annotated[int, typer.Option("--images", help="Number of images.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 0,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the generator, such as size=64 (cir show generator NAME).",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Drawing processes; one per core if left out.")
    ] = None,
) -> None:
    """Draw a data set in a reader's layout."""
    from cir_plugins.config.resolve import plan_component
    from cir_plugins.config.toml import parse_options
    from cir_plugins.plugins.registry import Registry

    planned = plan_component(Registry.load(), "generator", name, parse_options(sets or []))
    generated = planned.build()(out, images=images, seed=seed, workers=workers)
    for line in generated.lines:
        typer.echo(line)
    typer.echo(f"use it with: --data {generated.dataset} --root {out}")


def check(
    data: Data = "",
    root: Root = None,
    sets: Sets = None,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Whether to open every image.")
    ] = True,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that open images.")
    ] = None,
) -> None:
    """Count a data set and name missing or broken images.

    Says what they cost in queries. Exit code 1 if anything is wrong.
    """
    from cir_plugins.config.resolve import plan_reader
    from cir_plugins.data.check import check as check_data
    from cir_plugins.plugins.registry import Registry

    folder = need(root, "--root DIR")
    reader = plan_reader(Registry.load(), need(data, "--data NAME"), data_options(sets)).build()
    report = check_data(reader, folder, decode=decode, workers=workers)
    for line in report.lines():
        typer.echo(line)
    if not report.ok:
        raise typer.Exit(FOUND_ERRORS)
