"""Run folders: what makes one, and whether a given one may be used."""

from __future__ import annotations

import json
from pathlib import Path

from cir_plugins.config.plan import Plan
from cir_plugins.config.toml import computed, read_config, write_config
from cir_plugins.errors import CIRError
from cir_plugins.files import disk_error, is_partial, remove_stale, write_atomically, write_json
from cir_plugins.training.checkpoint import FORMAT

CONFIG, RECORD = "config.toml", "run.json"


def check_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Check that a run of the plan may use a folder; nothing is written.

    Raises:
        CIRError: If it is in use for something else.
    """
    if resume and (folder / RECORD).is_file():
        check_record(folder)
        if not same_run(folder, plan):
            raise CIRError(
                f"run {folder} was started with another configuration (see {CONFIG} there); "
                f"resume with --config {folder / CONFIG}, or choose another folder"
            )
        return
    if folder.is_dir():
        there = {file.name for file in folder.iterdir()}
        # A run that was killed while its folder was made leaves its configuration at most.
        free = not there or (resume and all(n == CONFIG or is_partial(n) for n in there))
    else:
        free = not folder.exists()
    if not free:
        raise CIRError(
            f"run folder {folder} is not empty; accepted: a new folder, or --resume to go on"
        )


def same_run(folder: Path, plan: Plan) -> bool:
    """Whether a run folder's configuration computes what the plan does.

    Raises:
        CIRError: If the configuration cannot be read.
    """
    there = read_config(folder / CONFIG)
    return write_config(computed(there)) == write_config(computed(plan.config()))


def make_folder(folder: Path, plan: Plan) -> None:
    """Make the run folder of a plan; one that is there stays as it is.

    Raises:
        CIRError: If it cannot be written.
    """
    remove_stale(folder, seconds=0)  # no other process writes into a run's folder
    if (folder / RECORD).is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    write_atomically(folder / CONFIG, plan.text().encode())
    write_json(folder / RECORD, {"format": FORMAT, "method": plan.method.name})


def check_record(folder: Path) -> None:
    """Check that a folder is a run's, of the format that this version reads.

    Raises:
        CIRError: If it is not.
    """
    path = folder / RECORD
    if not path.is_file():
        raise CIRError(f"{folder} is no run folder: {RECORD} is missing")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CIRError(f"{path} cannot be read: {error}") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise CIRError(
            f"run {folder} was written in format {found}; this version of cir-plugins reads "
            f"format {FORMAT}"
        )
