"""``cir train``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cir_plugins.cli.interrupt import command_of, resumable
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, need
from cir_plugins.errors import SharedError

if TYPE_CHECKING:
    from cir_plugins.config.plan import Plan
    from cir_plugins.config.toml import Config
    from cir_plugins.distributed.rendezvous import Rendezvous

USAGE = 2
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run.", show_default=False)]


def train(
    context: typer.Context,
    method: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="cir list method; may stand in the config file."),
    ] = "",
    data: Data = "",
    root: Root = None,
    out: Out = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file; a run's config.toml is one.", show_default=False),
    ] = None,
    sets: Sets = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Same as --set run.seed=N.", show_default=False)
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda or mps.", show_default=False)
    ] = "",
    warm_start: Annotated[
        Path | None,
        typer.Option("--from", help="Run whose weights training starts from.", show_default=False),
    ] = None,
    feature_cache: FeatureCache = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, with its options.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and train nothing.")
    ] = False,
) -> None:
    """Train a method and evaluate it, in a run folder.

    Under torchrun the processes train one model together.
    """
    from cir_plugins.config.toml import parse_set, read_config
    from cir_plugins.distributed.rendezvous import Rendezvous, rank_and_world_size

    rendezvous = Rendezvous.of(*rank_and_world_size())
    try:
        with rendezvous.synchronise_errors():
            flags = config_of_arguments(method, data, root, seed, device, warm_start, feature_cache)
            file: Config = read_config(config) if config else {}
            plan = checked_plan((file, flags, parse_set(sets or [])), out, resume)
        print_notes(plan, rendezvous)
        if not dry_run:
            with resumable(*_ways_on(out, context.obj)):
                run_together(plan, out, resume, rendezvous)
        elif rendezvous.rank == 0:
            typer.echo(plan.text(), nl=False)
    except SharedError as error:
        end_all(error, rendezvous)


def print_notes(plan: Plan, rendezvous: Rendezvous) -> None:
    """Print the notes on a plan in the first process."""
    from cir_plugins.config.notes import notes

    for note in notes(plan) if rendezvous.rank == 0 else ():
        typer.echo(f"note: {note}", err=True)


def checked_plan(layers: Sequence[Config], out: Path | None, resume: bool) -> Plan:
    """The plan of the layers, the last of them of ``--set``, for a device that is there."""
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.runs.build import check_device
    from cir_plugins.runs.execute import plan_run

    plan = plan_run(Registry.load(), layers, folder=out, resume=resume)
    check_device(plan)
    return plan


def _ways_on(out: Path | None, words: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """What an interrupted run may have left, each with the command that goes on."""
    from cir_plugins.runs.folder import CONFIG, RECORD

    if out is not None:
        yield out / RECORD, command_of(["train", "--out", str(out), "--resume"])
        yield out / CONFIG, command_of(words, "--resume")  # the folder was being made


def run_together(plan: Plan, out: Path | None, resume: bool, rendezvous: Rendezvous) -> None:
    """Run a plan with the processes of the rendezvous; the first one reports."""
    from cir_plugins.cli.terminal import show_report
    from cir_plugins.config.compatibility import check_whole_batches
    from cir_plugins.distributed.process_group import open_process_group
    from cir_plugins.encoding.device import resolve_device
    from cir_plugins.runs.execute import execute

    with rendezvous.synchronise_errors():
        folder: Path = need(out, "--out RUN")
        if rendezvous.size > 1:
            check_whole_batches(plan, f"{rendezvous.size} processes share it")
        device = resolve_device(plan.run.device)
    with open_process_group(rendezvous.rank, rendezvous.size, device, rendezvous) as processes:
        outcome = execute(plan, folder, resume=resume, processes=processes)
        if processes.is_main:
            show_report(outcome.report, outcome.evaluation.main_measures)
            typer.echo(f"run: {folder}")


def end_all(error: SharedError, rendezvous: Rendezvous) -> NoReturn:
    """End all processes with an error that all have, once the first one has printed it.

    torchrun ends the others as soon as one has ended. One that has waited for them in vain is
    alone with the error, and prints it.
    """
    from cir_plugins.distributed.rendezvous import EXIT_TIMEOUT

    if rendezvous.size == 1:
        raise error
    if rendezvous.rank == 0:
        typer.echo(f"error: {error}", err=True)
    try:
        rendezvous.all_gather_messages(timeout=EXIT_TIMEOUT)
    except RuntimeError:
        if rendezvous.rank:
            typer.echo(f"error: {error}", err=True)
    raise typer.Exit(USAGE) from error


def config_of_arguments(
    method: str,
    data: str,
    root: Path | None,
    seed: int | None,
    device: str,
    warm_start: Path | None,
    feature_cache: Path | None,
) -> Config:
    """The config of the command's arguments, without those that are left out."""
    config: dict[str, dict[str, Any]] = {
        "method": {"name": method},
        "data": {"name": data, "root": str(root) if root else ""},
        "run": {
            "seed": "" if seed is None else seed,
            "device": device,
            "warm_start": str(warm_start or ""),
            "feature_cache": str(feature_cache or ""),
        },
    }
    filled = {
        table: {key: value for key, value in values.items() if value != ""}
        for table, values in config.items()
    }
    return {table: values for table, values in filled.items() if values}
