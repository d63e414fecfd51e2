"""What ``cir check`` does beyond counting: repeated pictures, and frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cir_plugins.data.fingerprint import DataFingerprint
    from cir_plugins.data.split import Split

Duplicates = Annotated[
    bool,
    typer.Option(
        "--duplicates", help="Also find repeated pictures, within splits and with training."
    ),
]
Near = Annotated[
    int,
    typer.Option(
        "--near",
        min=-1,
        max=32,
        help="Bits of 64 in which near-duplicates may differ; -1 for equal files alone.",
    ),
]
Freeze = Annotated[
    Path | None,
    typer.Option(
        "--freeze",
        metavar="FILE",
        help="Write the hashes of this data here, with an id to quote.",
        show_default=False,
    ),
]
Subset = Annotated[
    Path | None,
    typer.Option(
        "--subset",
        metavar="FILE",
        help="Refuse data that is not what --freeze wrote here.",
        show_default=False,
    ),
]


def show_duplicates(splits: Sequence[Split], near: int) -> None:
    """Print the repeated pictures of each split."""
    from cir_plugins.data.duplicates import find_duplicates

    found = [(split.name, line) for split in find_duplicates(splits, near) for line in split.lines]
    for name, line in found:
        typer.echo(f"duplicates: {name}: {line}")
    if not found:
        typer.echo("duplicates: none")


def write_frozen(file: Path, dataset: str, splits: Sequence[Split]) -> None:
    """Freeze the data and print its id."""
    from cir_plugins.data.frozen import freeze

    frozen = freeze(file, dataset, splits)
    typer.echo(f"written: {file}, id {frozen.id}")


def require_subset(file: Path, data: DataFingerprint) -> None:
    """Print the id of the frozen data if this is it.

    Raises:
        CIRError: If it is not.
    """
    from cir_plugins.data.frozen import read_frozen

    frozen = read_frozen(file)
    frozen.require(data)
    typer.echo(f"the data of {file}, id {frozen.id}")


def rows_of_other_data(file: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of results whose data is not the frozen one, or unknown; one line for each."""
    from cir_plugins.data.frozen import read_frozen

    frozen = read_frozen(file)
    role_ids = {frozen.data.of_role(role).short for role in ("train", "val", "test")}
    lines = []
    for row in rows:
        data = row.get("data", {}).get("fingerprint", "") if "error" not in row else frozen.id
        if data not in {frozen.id, *role_ids}:
            name = row.get("label") or row.get("method", "")
            lines.append(f"{name}: not the data of {file} ({frozen.id}), but {data or 'unknown'}")
    return lines
