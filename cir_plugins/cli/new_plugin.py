"""``cir new-plugin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Python name in lower case.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder; NAME if left out.", show_default=False),
    ] = None,
) -> None:
    """Write a plugin's project: a small component of every kind but generators, with tests."""
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.plugins.scaffold import write_plugin

    folder = out or Path(name)
    files = write_plugin(name, folder, Registry.load())
    typer.echo(f"{len(files)} files in {folder}; see its README for what to delete")
    typer.echo(f"install and test it: cd {folder} && pip install -e '.[test]' && pytest")
