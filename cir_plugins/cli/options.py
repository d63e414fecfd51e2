"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from cir_plugins.config.toml import Config

Data = Annotated[str, typer.Option("--data", help="Layout of the data set (cir list dataset).")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the data set.", show_default=False)
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one option, such as train.epochs=3 or sampler=hardest; repeat as needed.",
        show_default=False,
    ),
]

FeatureCache = Annotated[
    Path | None,
    typer.Option(
        "--feature-cache",
        metavar="DIR",
        help="Keep features that do not change here, for this and other runs.",
        show_default=False,
    ),
]

Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        metavar="DIR",
        help="Results of an earlier suite: its runs are evaluated, and nothing is trained.",
        show_default=False,
    ),
]


def data_options(assignments: list[str] | None) -> dict[str, Any]:
    """The options of a reader among ``--set data.KEY=VALUE`` assignments.

    Raises:
        CIRError: If an option is of another table, or the data set's name or folder.
    """
    from cir_plugins.config.toml import parse_set

    config: Config = parse_set(assignments or [])
    options = config.pop("data", {})
    if config:
        raise CIRError(
            f"--set {next(iter(config))}... has no effect here; accepted: data.OPTION=value"
        )
    for key, option in (("name", "--data"), ("root", "--root")):
        if key in options:
            raise CIRError(f"--set data.{key}=... has no effect here; accepted: {option}")
    return options


def need(value: Any, option: str) -> Any:
    """The value of an option.

    Raises:
        CIRError: If it is missing.
    """
    if not value:
        raise CIRError(f"{option} is missing; see --help")
    return value
