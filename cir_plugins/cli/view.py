"""``cir view``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.eval import Device, Protocol
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options

if TYPE_CHECKING:
    from collections.abc import Sequence


def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page.", show_default=False)
    ] = None,
    data: Data = "",
    root: Root = None,
    protocol: Protocol = "",
    sets: Sets = None,
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "val",
    audit: Annotated[
        Path | None,
        typer.Option("--audit", help="Folder of a cir audit, for its slices.", show_default=False),
    ] = None,
    side: Annotated[
        int, typer.Option("--side", help="Longest side of a picture, in pixels.")
    ] = 144,
    feature_cache: FeatureCache = None,
    device: Device = "",
) -> None:
    """Show every query with its rankings under one or several runs, in a page without a server.

    Writes index.html, view.js, data.js and pictures/; open index.html in a browser.
    """
    from cir_plugins.cli.options import need
    from cir_plugins.runs.build import check_role
    from cir_plugins.viewer.view import check_side
    from cir_plugins.viewer.view import view as write_view

    folder: Path = need(out, "--out")
    check_role(split)
    check_side(side)
    options = data_options(sets)
    written = write_view(
        dict(zip(_names(runs), runs, strict=True)),
        folder,
        data=data,
        root=root,
        protocol=protocol,
        split=split,
        audit=audit,
        side=side,
        device=device,
        feature_cache=feature_cache,
        **options,
    )
    typer.echo(f"{written.queries:,} queries, {written.pictures:,} pictures")
    if written.unreadable:
        names = ", ".join(written.unreadable[:3])
        typer.echo(f"without a picture: {len(written.unreadable):,} images, such as {names}")
    typer.echo(f"written: {written.page}")


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the folders, as much of their paths as tells them apart."""
    parts = [run.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(each[-1:])} ({number})" for number, each in enumerate(parts, 1)]
