"""Structures of a run folder's JSON files, checked when they are read back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cir_plugins.config.records import StoredRecord, read_record
from cir_plugins.errors import CIRError, shown
from cir_plugins.files import parse_json, read_text

_Count = Annotated[int, Field(ge=0)]


class RunFile(StoredRecord):
    """``run.json``."""

    format: int
    method: str
    converted: tuple[str, ...] | None = None


class _PoolSizes(StoredRecord):
    mean: float
    quartiles: tuple[float, float, float]


class _ScoreGap(StoredRecord):
    span: tuple[float, float]
    counts: Annotated[tuple[_Count, ...], Field(min_length=1)]


class _Ranks(StoredRecord):
    target: float
    nearest: float
    farthest: float


class _Ambiguous(StoredRecord):
    mean: float
    unmarked: float | None = None
    covered: float | None = None


class _Mining(StoredRecord):
    negative_pool: _PoolSizes
    empty: float
    fallback: float | None = None
    false_negatives: float | None = None
    kept: float | None = None
    ranks: _Ranks | None = None
    ambiguous: _Ambiguous | None = None
    score_gap: _ScoreGap | None = None


class MetricsLine(StoredRecord):
    """A line of ``metrics.jsonl``: an epoch."""

    epoch: _Count
    loss: float | None = None
    main: float | None = None
    mining: _Mining | None = None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``.

    Raises:
        CIRError: If the file cannot be read or a line is no epoch of a run; names both.
    """
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        where = f"line {number} of {path}"
        line = parse_json(text, where)
        if not isinstance(line, dict):
            raise CIRError(f"{where} is {shown(line, 60)}\naccepted: the table of an epoch")
        read_record(MetricsLine, line, where)
        lines.append(line)
    return lines
