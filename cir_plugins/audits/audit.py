"""An audit of a run: what its numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cir_plugins.audits.measured import EMBEDDING, HASH, measure_split, missing_abilities
from cir_plugins.audits.pooled import (
    ATTRIBUTE,
    CATEGORY,
    DUPLICATE,
    LENGTH,
    SHORTCUT,
    WORDING,
    Pooled,
    Slice,
    slices_of,
)
from cir_plugins.audits.tables import (
    Change,
    Table,
    order_table,
    paraphrase_table,
    ranking_table,
    slice_table,
    twins_change,
)
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.loading import load
from cir_plugins.retrieval.evaluate import exclusions, protocol_label
from cir_plugins.retriever import Retriever
from cir_plugins.runs.data_record import data_fingerprint
from cir_plugins.runs.protocol import protocol_of

K = 10
NEAR = 0.95

_SLICES: Mapping[str, tuple[str, str]] = {
    SHORTCUT: (
        "The run on what shortcuts solve",
        "The run's measures over the queries whose target a training-free ranking has among its "
        "first {k}, and over the rest. One query may be in several rows.",
    ),
    CATEGORY: ("By category", "The run's measures over the queries of each category."),
    ATTRIBUTE: (
        "By attribute",
        "Over the queries whose text changes the attribute. Of CIRCO these are the semantic "
        "aspects, and map@10 of a row is its semantic mAP@10.",
    ),
    WORDING: (
        "Negation and counting",
        "Over the queries whose captions have a word that negates, or one that counts. The words "
        "are listed in the documentation.",
    ),
    LENGTH: ("By length of the text", "Over the queries by the number of words in all captions."),
    DUPLICATE: (
        "Near-duplicates",
        "Over the queries whose target or reference has a near-duplicate in the gallery: likeness "
        "of {near:g} or more ({how}). Where the target has one, the ranking cannot know which of "
        "the two is marked.",
    ),
}


@dataclass(frozen=True)
class Audit:
    """Tables of an audit, and the slices of every query.

    Attributes:
        run: Name of the method.
        dataset: Name of the data set.
        protocol: Name of the protocol, marked where images are missing.
        data: Fingerprint of the audited data.
        k: Rank up to which a query counts as solved.
        near: Likeness from which two images are near-duplicates.
        duplicates: ``embedding`` or ``phash``: what likeness is of.
        tables: The tables, in order.
        slices: Every slice of the queries.
        pooled: The values of every query.
    """

    run: str
    dataset: str
    protocol: str
    data: str
    k: int
    near: float
    duplicates: str
    tables: tuple[Table, ...]
    slices: tuple[Slice, ...] = field(repr=False)
    pooled: Pooled = field(repr=False)

    def __getitem__(self, name: str) -> Table:
        """A table by its name.

        Raises:
            CIRError: If there is none of that name.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise unknown_name("table", name, [table.name for table in self.tables])

    @property
    def queries(self) -> int:
        """Number of queries."""
        return len(self.pooled.queries)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object of ``audit.json``: settings and tables; all numbers are fractions."""
        return {
            "run": self.run,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "data": self.data,
            "queries": self.queries,
            **exclusions([part.result for part in self.pooled.parts]),
            "k": self.k,
            "near": self.near,
            "duplicates": self.duplicates,
            "tables": {table.name: table.document() for table in self.tables},
        }

    @property
    def marks(self) -> dict[str, Any]:
        """The JSON object of ``queries.json``: rank and slices of each query, by split and id."""
        ranks = self.pooled.run().ranks.tolist()
        columns = torch.stack([each.mask for each in self.slices])  # (slices, P)
        return {
            "data": self.data,
            "slices": [each.label for each in self.slices],
            "queries": [
                {
                    "split": split,
                    "id": query.id,
                    "rank": rank,
                    "slices": columns[:, row].nonzero()[:, 0].tolist(),
                }
                for row, ((split, query), rank) in enumerate(
                    zip(self.pooled.queries, ranks, strict=True)
                )
            ],
        }


def audit(
    run: Retriever | str | PathLike[str],
    data: str = "",
    root: str | PathLike[str] | None = None,
    *,
    protocol: str = "",
    split: str = "val",
    k: int = K,
    near: float = NEAR,
    duplicates: str = EMBEDDING,
    progress: bool | None = None,
    **options: Any,
) -> Audit:
    """The audit of a run on a data set: what ``cir audit`` gives.

    All means are over the queries of all splits in one, which of splits of different sizes is
    another number than the mean over the splits that ``cir eval`` prints.

    Args:
        run: A retriever or a run folder.
        data: Name of the data set; the run's own where it is left out.
        root: Its folder; the run's own where both are left out.
        protocol: Preset of its reader.
        split: ``train`` or ``val``, or ``test`` where its targets are known.
        k: Rank up to which a query counts as solved, from 1.
        near: Likeness from which two images are near-duplicates, in (0, 1].
        duplicates: ``embedding``: likeness is the cosine of the run's own gallery vectors;
            ``phash``: the share of equal bits of perceptual hashes (needs imagehash).
        progress: Whether bars are shown; None for the retriever's own setting.
        options: Options of the reader, over the protocol.

    Raises:
        CIRError: If a name, option or value is wrong, the data cannot be read, or its targets are
            not public.
    """
    check_settings(k, near, duplicates)
    retriever = run if isinstance(run, Retriever) else load(Path(run))
    opened = retriever.open_data(
        data, root, protocol=protocol, split=split, progress=progress, **options
    )
    method, encoding = opened.method, opened.encoding
    parts = [
        measure_split(method, each, encoding, near=near, duplicates=duplicates, k=k)
        for each in opened.splits
    ]
    shared = [
        name
        for name in parts[0].result.measures
        if all(name in part.result.measures for part in parts)
    ]
    pooled = Pooled(parts, tuple(shared), k)
    slices = tuple(slices_of(pooled))
    how = "cosine of the run's gallery vectors" if duplicates == EMBEDDING else "equal bits"
    tables = [
        ranking_table(pooled, missing_abilities(method)),
        *_slice_tables(pooled, slices, k=k, near=near, how=how),
        order_table(pooled),
        paraphrase_table(pooled),
    ]
    return Audit(
        opened.plan.method.name,
        opened.plan.data.name,
        protocol_label(protocol_of(opened.plan, protocol), [each.absent for each in opened.splits]),
        data_fingerprint(opened.plan, opened.splits, encoding).short,
        k,
        near,
        duplicates,
        tuple(tables),
        slices,
        pooled,
    )


def check_settings(k: int, near: float, duplicates: str) -> None:
    """Check the settings of an audit.

    Raises:
        CIRError: If one is out of its range.
    """
    if k < 1:
        raise CIRError(f"k is {k}; accepted: a rank from 1")
    if not 0 < near <= 1:
        raise CIRError(f"near is {near:g}; accepted: a likeness above 0, up to 1")
    if duplicates not in (EMBEDDING, HASH):
        raise unknown_name("kind of likeness", duplicates, (EMBEDDING, HASH))


def _slice_tables(pooled: Pooled, slices: tuple[Slice, ...], **words: Any) -> list[Table]:
    tables = []
    for group, (title, text) in _SLICES.items():
        table = slice_table(pooled, slices, group, title, text.format(**words))
        if group == DUPLICATE:
            changes: tuple[Change, ...] = (twins_change(pooled),)
            table = Table(table.name, title, table.text, table.rows, changes, table.notes)
        tables.append(table)
    return tables
