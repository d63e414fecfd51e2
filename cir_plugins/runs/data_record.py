"""The record of a run's data in its folder, written before training and compared by a resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cir_plugins.config.plan import Plan
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Split
from cir_plugins.encoding.checksums import json_checksum
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, write_json

DATA = "data.json"


def data_fingerprint(plan: Plan, splits: Sequence[Split], encoding: Encoding) -> DataFingerprint:
    """The fingerprint of splits of a plan's data; a feature cache knows the hashes of its images.

    Raises:
        CIRError: If an image cannot be read.
    """
    hash_files = None if encoding.cache is None else encoding.cache.contents
    return DataFingerprint.of(plan.data.name, splits, hash_files)


def write_data(folder: Path, data: DataFingerprint) -> None:
    """Write the record of a run's data.

    Raises:
        CIRError: If it cannot be written.
    """
    content = data.as_json()
    write_json(folder / DATA, {"checksum": json_checksum(content), "data": content})


def read_data(folder: Path) -> DataFingerprint:
    """The fingerprint of the data that a run was begun with.

    Raises:
        CIRError: If it is missing or damaged.
    """
    path = folder / DATA
    try:
        content = read_json(path)
    except CIRError as error:
        if path.exists():
            raise
        raise CIRError(
            f"run {folder} has no {DATA}, so that nothing shows whether its data is still the "
            "same; accepted: another folder"
        ) from error
    if not isinstance(content, dict) or content.get("checksum") != json_checksum(
        content.get("data")
    ):
        raise CIRError(f"{path} is damaged: its checksum differs; accepted: another folder")
    return DataFingerprint.from_json(content["data"], str(path))


def check_data(folder: Path, data: DataFingerprint) -> None:
    """Check that a run's data is the one that it was begun with.

    Raises:
        CIRError: If it is not, naming what changed.
    """
    changes = read_data(folder).changes(data)
    if changes:
        raise CIRError(
            f"the data changed since run {folder} was begun: {'; '.join(changes)}\n"
            "accepted: the same data, or another folder"
        )
