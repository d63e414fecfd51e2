"""``cir convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_plugins.cli.options import Data, Root, Sets, need
from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cir_plugins.config.plan import Plan
    from cir_plugins.config.toml import Config

# Data set of a converted run where none is named; it has no folder of its own.
DATA, ROOT = "fashioniq", "."
RANDOM: dict[str, Any] = {"backbone.weights": "random"}
_UNFINISHED = ".part"


def convert(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="cir list method.")],
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="CHECKPOINT...", help="Official files of one model, in any order."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default=False)
    ] = None,
    data: Data = "",
    root: Root = None,
    sets: Sets = None,
) -> None:
    """Make a run that eval, train and search take from official weights; nothing in them is run."""
    from cir_plugins.config.toml import parse_set
    from cir_plugins.plugins.declarations import OFFICIAL, OFFICIAL_FILES, OFFICIAL_SETTINGS
    from cir_plugins.plugins.registry import Registry

    folder = need(out, "--out RUN")
    check_free(folder)
    factory = Registry.load().factory("method", method)
    official = OFFICIAL.of(factory)
    if official is None:
        raise CIRError(f"method '{method}' has no official checkpoints that could be converted")
    loaded, from_files = read_files(checkpoints, OFFICIAL_FILES.of(factory))
    settings = OFFICIAL_SETTINGS.of(factory)
    differences = {**(RANDOM if settings is None else settings), **from_files}
    names: Config = {
        "method": {"name": method},
        "data": {"name": data or DATA, "root": str(root or ROOT)},
    }
    plan = plan_converted(names, differences, parse_set(sets or []))
    state = state_of(plan, loaded, official)
    write_run(folder, plan, state, [file.name for file in checkpoints])
    typer.echo(f"{len(state)} tensors from {', '.join(file.name for file in checkpoints)}")
    typer.echo(f"run: {folder}")


def check_free(folder: Path) -> None:
    """Check that a run may be written to a folder.

    Raises:
        CIRError: If something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CIRError(f"run folder {folder} is not empty; accepted: a new folder")


def read_files(
    files: list[Path], readers: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Contents of the checkpoints, and the options that files of other kinds hold.

    Args:
        files: The files of one model.
        readers: Suffix -> function that reads such a file into options by ``table.option``.

    Raises:
        CIRError: If a file cannot be read, or two hold the same tensors.
    """
    from cir_plugins.runs.convert import check_no_doubles
    from cir_plugins.runs.untrusted import load_untrusted

    loaded: list[Mapping[str, Any]] = []
    checkpoint_files: list[Path] = []
    options: dict[str, Any] = {}
    for file in files:
        if file.suffix in readers and file.is_file():
            options.update(readers[file.suffix](file))
        else:
            loaded.append(load_untrusted(file))
            checkpoint_files.append(file)
    for file, content in zip(checkpoint_files, loaded, strict=True):
        check_weights(file, content)
    check_no_doubles(loaded)
    return loaded, options


def check_weights(file: Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint holds a tensor; before a model is built, perhaps downloaded, for it.

    Raises:
        CIRError: If it holds none.
    """
    from torch import Tensor

    values, seen = list(content.values()), set()
    while values:
        value = values.pop()
        if isinstance(value, Tensor):
            return
        if id(value) in seen:  # a pickle may hold itself
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, (list, tuple)):
            values.extend(value)
    raise CIRError(f"checkpoint {file} holds no weights; accepted: an official file of the method")


def plan_converted(names: Config, differences: Mapping[str, Any], settings: Config) -> Plan:
    """The plan of a converted run: the recipe, its official settings, and those of ``--set``.

    Raises:
        CIRError: If it cannot be made or would not read its weights.
    """
    from cir_plugins.config.resolve import make_plan
    from cir_plugins.plugins.registry import Registry

    official: Config = {}
    for key, value in differences.items():
        table, _, option = key.partition(".")
        official.setdefault(table, {})[option] = value
    plan = make_plan(Registry.load(), names, official, settings)
    if not plan.train.epochs:
        raise CIRError("train.epochs=0 makes a run without weights; accepted: leave it out")
    return plan


def state_of(
    plan: Plan, checkpoints: list[Mapping[str, Any]], official: Any
) -> Mapping[str, Tensor]:
    """The state of the plan's method from checkpoints.

    Raises:
        CIRError: If they do not fit it.
    """
    import torch

    from cir_plugins.encoding.features import Encoding
    from cir_plugins.runs.build import build
    from cir_plugins.runs.convert import converted_state

    method = build(plan, Encoding(torch.device("cpu"), progress=False))
    try:
        return converted_state(checkpoints, method, official)
    except CIRError as error:
        raise CIRError(f"method '{plan.method.name}': {error}") from error


def write_run(folder: Path, plan: Plan, state: Mapping[str, Tensor], names: list[str]) -> None:
    """Write a run folder whole or not at all.

    Raises:
        CIRError: If it cannot be written.
    """
    import os
    import shutil

    from cir_plugins.files import disk_error, write_atomically
    from cir_plugins.runs.convert import write_converted
    from cir_plugins.runs.folder import CONFIG, write_record
    from cir_plugins.training.trainer import BEST

    unfinished = folder.with_name(f".{folder.name}{_UNFINISHED}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_atomically(unfinished / CONFIG, plan.text().encode())
        write_converted(state, unfinished / BEST)
        write_record(unfinished, plan.method.name, plan.text(), converted=names)
        if folder.exists():
            folder.rmdir()
        os.replace(unfinished, folder)
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
