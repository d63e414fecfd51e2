"""Structures of a suite's JSON files, checked when they are read back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cir_plugins.config.records import StoredRecord, read_record
from cir_plugins.errors import CIRError

_Count = Annotated[int, Field(ge=0)]
_Measures = dict[str, float]


class _Parameters(StoredRecord):
    trained: _Count
    all: _Count


class _Failed(StoredRecord):
    label: str
    method: str
    seed: int
    error: str


class _Finished(StoredRecord):
    label: str
    method: str
    seed: int
    seconds: float
    parameters: _Parameters
    updates: _Count
    config: dict[str, dict[str, Any]]
    dataset: str
    protocol: str
    splits: dict[str, _Measures]
    average: _Measures
    queries: _Count
    gallery: _Count
    record: dict[str, Any] = Field(default_factory=dict)


class _Record(_Finished):
    """``rows/NAME.json`` of a finished run."""

    curve: tuple[dict[str, Any], ...]
    rankings: dict[str, dict[str, list[str]]]
    fingerprint: str
    folder: str
    all_data: dict[str, Any] | None


class _Interval(StoredRecord):
    difference: float
    low: float
    high: float


class _Difference(StoredRecord):
    label: str
    reference: str
    main: _Interval


class _Hardware(StoredRecord):
    cpu: str
    threads: int
    gpu: str | None


class _Versions(StoredRecord):
    torch: str


class _Document(StoredRecord):
    """``results.json``."""

    suite: str
    description: str
    changed: dict[str, Any] = Field(default_factory=dict)
    created: str
    hardware: _Hardware
    versions: _Versions
    commit: str | None
    seeds: tuple[int, ...]
    main: tuple[str, ...]
    show: tuple[str, ...]
    random: dict[str, float]
    differences: tuple[_Difference, ...]
    rows: tuple[dict[str, Any], ...]


def check_record(content: object, where: str) -> dict[str, Any]:
    """The content of a row's file, once it is known to be one.

    Raises:
        CIRError: If it is none; names the place and what is accepted.
    """
    return _checked(content, where, _Record)


def check_document(content: object, where: str) -> dict[str, Any]:
    """The content of a ``results.json``, once it is known to be one.

    Raises:
        CIRError: If it is none; names the place and what is accepted.
    """
    read_record(_Document, content, where)
    document: dict[str, Any] = dict(content)  # type: ignore[call-overload]
    for number, row in enumerate(document["rows"], 1):
        _checked(row, f"row {number} of {where}", _Finished)
    return document


def _checked(content: object, where: str, finished: type[_Finished]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CIRError(f"{where} is no table; accepted: a file that cir bench wrote")
    read_record(_Failed if "error" in content else finished, content, where)
    return content
