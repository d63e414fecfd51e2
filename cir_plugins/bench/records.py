"""Records of a suite, one per entry and seed, and their files."""

from __future__ import annotations

import io
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from cir_plugins.bench.statistics import Values
from cir_plugins.bench.stored import check_record
from cir_plugins.bench.suite import Suite, run_name
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.encoding.checksums import json_checksum
from cir_plugins.errors import CIRError
from cir_plugins.files import check_regular, read_json, write_atomically, write_json
from cir_plugins.plugins.guard import message_of

if TYPE_CHECKING:
    from rich.console import Console

    from cir_plugins.data.split import Split

REPORT = ("dataset", "protocol", "splits", "average", "queries", "gallery")
# In a report where there is something to count.
OPTIONAL = ("left_out", "blind", "unreachable", "positives_across", "faults", "data", "record")
# The folders of an absolute path, the last name left out; not the parts of a web address, except
# for a path that was put after its host with a second slash.
_FOLDERS = re.compile(
    r"(?:(?<![\w.:/\\])|(?<=\w/))(?:[A-Za-z]:)?[\\/]"
    r"(?:[^\s'\":,;()\\/]+[\\/])*(?=[^\s'\":,;()\\/])"
)
_LONGEST = 400
_LOG = logging.getLogger(__name__)
_ON_TRAINING = ("training", "trained_on")


@dataclass(frozen=True)
class RunRecord:
    """A suite entry with a seed, finished or failed.

    Attributes:
        label: Label of the suite entry.
        method: Name of the method.
        seed: Seed of the run.
        error: Reason of the failure in one line; "" for a finished run.
        seconds: Time of training and final evaluation.
        parameters: Numbers of parameters, ``trained`` and ``all``.
        updates: Optimiser steps.
        config: The resolved configuration, without this machine's folders.
        report: Data set, protocol, measures by split and on average, queries and gallery.
        curve: Per epoch: loss, validation, mining.
        rankings: Split -> triplet -> top images, for a few queries of one seed.
        fingerprint: Hash of everything that the run depends on but its data.
        data: Fingerprint of the splits that it was trained and evaluated on; None if unknown.
        training: Counts of the training splits, {} where nothing was trained.
        trained_on: Of an earlier suite's run: the short fingerprint of its own data, and
            ``changes``, what is different in the data that it was evaluated on.
        folder: Name of its run folder; "" where there is none.
        values: Measure -> split -> value of each query (Q,), for the main measures.
    """

    label: str
    method: str
    seed: int
    error: str = ""
    seconds: float = 0.0
    parameters: Mapping[str, int] = field(default_factory=dict)
    updates: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[Mapping[str, Any], ...] = ()
    rankings: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    fingerprint: str = ""
    data: DataFingerprint | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    values: Mapping[str, Mapping[str, Values]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """File name of the run, without a suffix."""
        return run_name(self.label, self.seed)

    def line(self) -> dict[str, Any]:
        """The run as an object of ``results.json``."""
        line: dict[str, Any] = {"label": self.label, "method": self.method, "seed": self.seed}
        if self.error:
            return {**line, "error": self.error}
        line |= {"seconds": round(self.seconds, 2), "parameters": dict(self.parameters)}
        line |= {"updates": self.updates, "config": self.config, **self.report}
        for name in _ON_TRAINING:
            if getattr(self, name):
                line[name] = getattr(self, name)
        return line


@dataclass(frozen=True)
class SuiteResult:
    """A suite that has run.

    Attributes:
        suite: The suite.
        records: Records of all entries with all seeds, in the order they ran.
        document: Content of ``results.json``.
        splits: The evaluated splits; empty if every run failed.
        out: Folder of the results.
    """

    suite: Suite
    records: tuple[RunRecord, ...]
    document: Mapping[str, Any]
    splits: tuple[Split, ...]
    out: Path

    @property
    def failed(self) -> tuple[RunRecord, ...]:
        """The runs that failed."""
        return tuple(record for record in self.records if record.error)

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that ended well."""
        return tuple(record for record in self.records if not record.error)

    def show(self, console: Console) -> None:
        """Print the table, the failed runs with their reasons, and the table's caption."""
        from cir_plugins.bench.tables import caption, print_table, summary

        print_table(summary(self.document), console)
        console.print(caption(self.document), markup=False, highlight=False)


def write_record(record: RunRecord, out: Path) -> None:
    """Write ``rows/<name>.json`` and, for a finished run, ``values/<name>.npz``.

    Raises:
        CIRError: If they cannot be written.
    """
    content = {
        **record.line(),
        "fingerprint": record.fingerprint,
        "folder": record.folder,
        "all_data": None if record.data is None else record.data.as_json(),
    }
    if not record.error:
        content |= {"curve": list(record.curve), "rankings": record.rankings}
        arrays = {
            f"{split}/{measure}": values
            for measure, splits in record.values.items()
            for split, values in splits.items()
        }
        file = out / "values" / f"{record.name}.npz"
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(file, buffer.getvalue())
    write_json(
        out / "rows" / f"{record.name}.json", {"checksum": json_checksum(content), **content}
    )


def read_record(name: str, out: Path) -> RunRecord | None:
    """The finished run of that name in ``out``, or None where there is none.

    A damaged one counts as none, with a warning that names the file: it is made anew.
    """
    row, data_file = out / "rows" / f"{name}.json", out / "values" / f"{name}.npz"
    if not row.exists():
        return None
    try:
        content = _read_row(row)
        if "error" in content:
            return None
        data = _data(content["all_data"], name)
        values = _read_values(data_file)
    except CIRError as error:
        _LOG.warning("%s; the run is made anew", error)
        return None
    fields = ("label", "method", "seed", "seconds", "parameters", "updates", "config")
    return RunRecord(
        **{key: content[key] for key in fields},
        report={key: content[key] for key in REPORT}
        | {key: content[key] for key in OPTIONAL if key in content},
        curve=tuple(content["curve"]),
        rankings=content["rankings"],
        fingerprint=content["fingerprint"],
        data=data,
        folder=content["folder"],
        values=values,
        **{key: content[key] for key in _ON_TRAINING if key in content},
    )


def _read_row(path: Path) -> dict[str, Any]:
    """The content of ``rows/NAME.json``.

    Raises:
        CIRError: If it cannot be read or is not what was written.
    """
    content = check_record(read_json(path), str(path))
    members = {name: value for name, value in content.items() if name != "checksum"}
    if content.get("checksum") != json_checksum(members):
        raise CIRError(f"{path} is damaged: its checksum differs")
    return members


def _read_values(path: Path) -> dict[str, dict[str, Values]]:
    """Measure -> split -> value of each query.

    Raises:
        CIRError: If the file is missing or damaged.
    """
    values: dict[str, dict[str, Values]] = {}
    try:
        check_regular(path)
        data = io.BytesIO(path.read_bytes())
        with np.load(data, allow_pickle=False) as arrays:
            for key in arrays.files:
                split, _, measure = key.rpartition("/")
                values.setdefault(measure, {})[split] = arrays[key]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise CIRError(f"{path} is damaged: {error}") from error
    return values


def _data(content: Any, name: str) -> DataFingerprint | None:
    return None if content is None else DataFingerprint.from_json(content, f"row {name}")


def trained_folder(runs: Path, name: str) -> Path:
    """The folder of the run of a row of an earlier suite: where it was trained last."""
    row = runs / "rows" / f"{name}.json"
    try:
        folder = _read_row(row).get("folder", "")
    except CIRError:
        folder = ""
    # A name, not a path: what stands in a file leads nowhere else.
    inside = isinstance(folder, str) and folder and Path(folder).name == folder
    return runs / "runs" / (folder if inside else name)


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        CIRError: If it cannot be written.
    """
    write_atomically(file, text.encode())


def without_folders(value: Any) -> Any:
    """A plain value in which each absolute path is cut to its last name: results are published."""
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(item) for item in value]
    return _FOLDERS.sub("", str(value)) if isinstance(value, (str, Path)) else value


def one_line(error: BaseException) -> str:
    """The reason of a failure in one line, without this machine's folders."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    text = "; ".join(lines) if isinstance(error, CIRError) else lines[0] if lines else ""
    if not isinstance(error, CIRError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = without_folders(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
