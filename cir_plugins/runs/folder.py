"""Run folders: their files, and whether a plan may use one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.records import read_record
from cir_plugins.config.toml import COMPONENT_TABLES, Config, computed, read_config, write_config
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.encoding.checksums import json_checksum, text_checksum
from cir_plugins.errors import CIRError, shown
from cir_plugins.files import (
    disk_error,
    is_partial,
    read_json,
    read_text,
    remove_stale,
    write_atomically,
    write_json,
)
from cir_plugins.runs.data_record import DATA, write_data
from cir_plugins.runs.lock import LOCK
from cir_plugins.runs.records import RunFile
from cir_plugins.training.checkpoint import FORMAT

CONFIG, RECORD = "config.toml", "run.json"
_LONGEST_VALUE = 60  # characters of a value in a message


def check_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Check that a run of the plan may use a folder; nothing is written.

    Raises:
        CIRError: If it is in use for something else.
    """
    if resume and (folder / RECORD).is_file():
        check_record(folder)
        if not same_run(folder, plan):
            changes = "\n".join(differences(folder, plan))
            raise CIRError(
                f"run {folder} was started with another configuration:\n{changes}\n"
                f"accepted: cir train --out {folder} --resume, which takes all options from "
                f"{CONFIG} there, or another folder"
            )
        return
    if folder.is_dir():
        names = {file.name for file in folder.iterdir()} - {LOCK}
        # A run that was killed while its folder was made leaves no more than these.
        begun = (CONFIG, DATA)
        free = not names or (resume and all(n in begun or is_partial(n) for n in names))
    else:
        free = not folder.exists()
    if not free:
        raise CIRError(
            f"run folder {folder} is not empty; accepted: a new folder, or --resume to continue "
            "the run in it"
        )


def same_run(folder: Path, plan: Plan) -> bool:
    """Whether a run folder's configuration computes what the plan does.

    Raises:
        CIRError: If the configuration cannot be read.
    """
    return not differences(folder, plan)


def differences(folder: Path, plan: Plan) -> list[str]:
    """Options in which a run folder's configuration and the plan compute other numbers.

    One line for each, such as ``train.epochs: 10 in the run, now 3``; none where all are the same.

    Raises:
        CIRError: If the configuration cannot be read.
    """
    before, after = (
        tomllib.loads(write_config(computed(config)))
        for config in (read_run_config(folder), plan.config())
    )
    lines = []
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) == after.get(name):
            continue
        old, new = before.get(name, {}), after.get(name, {})
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                lines.append(f"{name}.{key}: {_shown(old, key)} in the run, now {_shown(new, key)}")
    return lines


def _shown(table: Mapping[str, Any], key: str) -> str:
    text = repr(table[key]) if key in table else "not set"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def make_folder(folder: Path, plan: Plan, data: DataFingerprint) -> None:
    """Make the run folder of a plan and its data; an existing one stays as it is.

    Raises:
        CIRError: If it cannot be written.
    """
    remove_stale(folder)
    if (folder / RECORD).is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    write_atomically(folder / CONFIG, plan.text().encode())
    write_data(folder, data)
    write_record(folder, plan.method.name, plan.text())


def write_record(folder: Path, method: str, config: str, **facts: Any) -> None:
    """Write a run folder's record, with checksums of itself and of the configuration.

    Args:
        folder: The folder.
        method: Name of the method.
        config: Text of the configuration there.
        facts: Further members.

    Raises:
        CIRError: If it cannot be written.
    """
    record = {"format": FORMAT, "method": method, **facts}
    record["config"] = text_checksum(config)
    write_json(folder / RECORD, {**record, "checksum": _checksum(record)})


def _checksum(record: Mapping[str, Any]) -> str:
    members = {key: value for key, value in record.items() if key != "checksum"}
    return json_checksum(members)


def check_record(folder: Path) -> dict[str, Any]:
    """The record of a run folder, once it is known to be of the format that this version reads.

    Raises:
        CIRError: If the folder is no run, or one of another format.
    """
    path = folder / RECORD
    if not path.exists():
        raise CIRError(f"{folder} is no run folder: {RECORD} is missing")
    record = read_json(path)
    values: dict[str, Any] = record if isinstance(record, dict) else {}
    version = values.get("format")
    if isinstance(version, int) and version != FORMAT:
        raise CIRError(
            f"{path} was written in format {shown(version, 40)}; this version of cir-plugins "
            f"reads format {FORMAT}"
        )
    read_record(RunFile, record, str(path))
    if values.get("checksum") != _checksum(values):
        raise CIRError(f"{path} is damaged: its checksum differs; accepted: another run")
    return values


def read_run_config(folder: Path) -> Config:
    """The resolved configuration of a run folder.

    Raises:
        CIRError: If it cannot be read or is not whole.
    """
    path = folder / CONFIG
    record = check_record(folder) if (folder / RECORD).exists() else {}
    if "config" in record and record["config"] != text_checksum(read_text(path, "config file")):
        raise CIRError(
            f"config file {path} is damaged or was edited: its checksum in {RECORD} differs\n"
            "accepted: the file as it was written; a changed copy with cir train --config FILE"
        )
    tables = read_config(path)
    lacking = [
        name for name in COMPONENT_TABLES if not isinstance(tables.get(name, {}).get("name"), str)
    ]
    if lacking:
        raise CIRError(
            f"{path} is damaged: it names no {', '.join(lacking)}\n"
            "accepted: the file as cir train or cir convert wrote it"
        )
    return tables


def is_converted(folder: Path) -> bool:
    """Whether a run was made from official weights, which have no data folder.

    Raises:
        CIRError: If the folder is no run, or one of another format.
    """
    return "converted" in check_record(folder)
