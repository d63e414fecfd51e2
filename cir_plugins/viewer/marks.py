"""Slices of queries, read back from an audit's ``queries.json`` or found in the texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cir_plugins.audits.page import MARKS
from cir_plugins.audits.pooled import ATTRIBUTE, CATEGORY, LENGTH, WORDING
from cir_plugins.audits.wording import counts, length_of, negates
from cir_plugins.config.records import StoredRecord, read_record
from cir_plugins.data.split import Query
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json

_Index = Annotated[int, Field(ge=0)]
Key = tuple[str, str]
"""Split and id of a query."""


class _MarkedQuery(StoredRecord):
    split: str
    id: str
    rank: _Index
    slices: tuple[_Index, ...]


class _Marks(StoredRecord):
    data: str
    slices: tuple[str, ...]
    queries: tuple[_MarkedQuery, ...]


def slices_of_text(query: Query) -> list[str]:
    """Slices that a query's captions alone put it in."""
    text = " ".join(query.captions)
    names = [f"{LENGTH}: {length_of(query.captions)}"]
    names += [f"{WORDING}: negation"] if negates(text) else []
    return names + ([f"{WORDING}: counting"] if counts(text) else [])


def read_marks(folder: Path, data: str, keys: Sequence[Key]) -> list[list[str]]:
    """Slices of each query from an audit's folder, but its category and attributes.

    Args:
        folder: What ``cir audit --out`` wrote.
        data: Fingerprint of the data that is shown.
        keys: Split and id of each query, in order.

    Raises:
        CIRError: If the file cannot be read, is damaged, or is about other data.
    """
    path = folder / MARKS
    marks = read_record(_Marks, read_json(path, "audit"), str(path))
    if marks.data != data:
        raise CIRError(
            f"audit {path} is of data {marks.data}, the runs are shown on {data}\n"
            "accepted: an audit of the same data set, split and protocol"
        )
    shown = [not name.startswith((f"{CATEGORY}:", f"{ATTRIBUTE}:")) for name in marks.slices]
    of_query: dict[Key, list[str]] = {}
    for number, query in enumerate(marks.queries):
        if any(index >= len(marks.slices) for index in query.slices):
            raise CIRError(f"{path}, query {number} has a slice that the file does not name")
        names = [marks.slices[index] for index in query.slices if shown[index]]
        of_query[query.split, query.id] = names
    missing = [key for key in keys if key not in of_query]
    if missing:
        raise CIRError(
            f"audit {path} lacks {len(missing)} of the queries, such as {missing[0][1]} of "
            f"{missing[0][0]}\naccepted: an audit of the same data set, split and protocol"
        )
    return [of_query[key] for key in keys]
