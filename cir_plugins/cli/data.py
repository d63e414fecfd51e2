"""``cir make-data`` and ``cir check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_plugins.cli.options import Data, Root, Sets, data_options, need

FOUND_ERRORS = 1


def make_data(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="What to draw: garments.")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    images: Annotated[int, typer.Option("--images", help="Number of images, 50 or more.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of an image in pixels.")] = 96,
    val_share: Annotated[
        float, typer.Option("--val-share", help="Share of the images kept for the val split.")
    ] = 0.25,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Drawing processes; one per core if left out.")
    ] = None,
) -> None:
    """Draw a data set in FashionIQ's layout."""
    from cir_plugins.errors import unknown_name

    if what != "garments":
        raise unknown_name("data set to draw", what, ["garments"])
    from cir_plugins.garments import write_garments

    summary = write_garments(
        out, images=images, seed=seed, size=size, val_share=val_share, workers=workers
    )
    for split, count in summary.split_images.items():
        typer.echo(
            f"{split}: {count:,} images, {summary.split_triplets[split]:,} triplets, "
            f"{summary.mean_answers[split]:.2f} right answers each"
        )
    typer.echo(f"use it with: --data fashioniq --root {out}")


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
    from cir_plugins.check import check as check_data
    from cir_plugins.plan import plan_reader
    from cir_plugins.registry import Registry

    folder = need(root, "--root DIR")
    reader = plan_reader(Registry.load(), need(data, "--data NAME"), data_options(sets)).build()
    report = check_data(reader, folder, decode=decode, workers=workers)
    for line in report.lines():
        typer.echo(line)
    if not report.ok:
        raise typer.Exit(FOUND_ERRORS)
