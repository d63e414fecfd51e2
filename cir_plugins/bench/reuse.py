"""What of an earlier suite is used again: rows and run folders of the same settings and data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cir_plugins.bench.jobs import Job
from cir_plugins.bench.records import RunRecord, read_record
from cir_plugins.config.plan import Plan
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.runs.build import read_splits
from cir_plugins.runs.data_record import read_data
from cir_plugins.runs.folder import CONFIG, RECORD, same_run


class FinishedRows:
    """The runs that an earlier call finished, where their data is still the same.

    Data is read once for all rows that have the same of it.

    Args:
        out: Folder of the results.
        progress: Whether rows that are run anew are named.
    """

    def __init__(self, out: Path, progress: bool) -> None:
        self.out = out
        self.progress = progress
        self._data: dict[str, DataFingerprint] = {}

    def finished(
        self, job: Job, splits: tuple[Split, ...]
    ) -> tuple[RunRecord | None, tuple[Split, ...]]:
        """The record of an earlier run of the same job and data, with its evaluated splits."""
        record = read_record(job.name, self.out)
        if record is None or job.plan is None or record.fingerprint != job.fingerprint:
            return None, ()
        changes = _changes(record, self._current(job, job.plan))
        if changes:
            if self.progress:
                text = f"    run anew, as the data changed: {'; '.join(changes)}"
                tqdm.write(text, file=sys.stderr)
            return None, ()
        if splits:
            return record, splits
        return record, tuple(read_splits(job.plan, ("val",)))

    def _current(self, job: Job, plan: Plan) -> DataFingerprint:
        """The fingerprint of a job's data as it is now."""
        trains = job.trained is None and plan.train.epochs > 0
        roles = ("train", "val") if trains else ("val",)
        key = repr((plan.data.name, sorted(plan.data.options.items()), str(plan.root), roles))
        if key not in self._data:
            splits = read_splits(plan, roles)
            self._data[key] = DataFingerprint.of(plan.data.name, splits)
        return self._data[key]


def _changes(record: RunRecord, data: DataFingerprint) -> list[str]:
    return ["unknown"] if record.data is None else record.data.changes(data)


def run_folder(job: Job, plan: Plan, runs: Path) -> Path:
    """The run's folder; another one where an earlier suite left a run of other settings or data."""
    folder = runs / job.name
    if not (folder / CONFIG).is_file():
        return folder
    if not same_run(folder, plan):
        folder = runs / f"{job.name}-{job.fingerprint[:8]}"
    if not (folder / RECORD).is_file():
        return folder
    roles = ("train", "val") if plan.train.epochs else ("val",)
    data = DataFingerprint.of(plan.data.name, read_splits(plan, roles))
    return folder if _same_data(folder, data) else runs / f"{folder.name}-{data.short[:8]}"


def _same_data(folder: Path, data: DataFingerprint) -> bool:
    """Whether a run was begun with this data; a run without a record of it was not."""
    try:
        return not read_data(folder).changes(data)
    except CIRError:
        return False


def trained_on(before: DataFingerprint, after: DataFingerprint) -> dict[str, Any]:
    """What a run was trained on, and what is different in the data that it is evaluated on."""
    return {
        "fingerprint": before.of_role("train").short,
        "changes": before.of_role("val").changes(after.of_role("val")),
    }
