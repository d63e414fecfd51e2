"""What the page shows: queries, and their rankings under each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

from cir_plugins.audits.measured import target_ranks
from cir_plugins.data.split import Query, Split, left_out
from cir_plugins.errors import CIRError
from cir_plugins.retrieval.evaluate import encode_split, protocol_label, rankings
from cir_plugins.retriever import Retriever
from cir_plugins.runs.caveats import caveats
from cir_plugins.runs.data_record import data_fingerprint
from cir_plugins.runs.protocol import protocol_of

Showable: TypeAlias = "Retriever | str | PathLike[str]"
"""A retriever or a run folder."""
Rankings: TypeAlias = tuple[list[int], list[list[str]]]
"""Rank of each query's target, 0 for none, and ids of the first of each ranking."""


@dataclass(frozen=True)
class Shown:
    """The Q queries of all splits with their rankings.

    Attributes:
        dataset: Name of the data set.
        protocol: Name of the protocol, marked where images are missing.
        data: Fingerprint of the data.
        splits: The splits, in order.
        runs: Name of a run -> its rankings.
    """

    dataset: str
    protocol: str
    data: str
    splits: tuple[Split, ...]
    runs: Mapping[str, Rankings]

    @property
    def queries(self) -> list[tuple[Split, Query]]:
        """Split and query of each."""
        return [(split, query) for split in self.splits for query in split.queries]

    @property
    def notes(self) -> list[str]:
        """What rankings and ranks are not about: missing images, queries without a target."""
        absent = left_out({split.name: split.absent for split in self.splits})
        lines = list(caveats({"left_out": absent} if absent else {}))
        blind = sum(query.target is None for _, query in self.queries)
        if blind:
            lines.append(f"{blind:,} of the queries are blind: they have no target")
        return lines


def show_runs(
    runs: Mapping[str, Showable],
    load: Callable[[Showable], Retriever],
    k: int,
    target: Mapping[str, Any],
) -> Shown:
    """The queries with the first k of their rankings; one run at a time is in memory.

    Args:
        runs: Name -> run.
        load: The retriever of a run.
        k: Images of each ranking.
        target: Arguments of ``Retriever.open_data``.

    Raises:
        CIRError: If a run cannot be opened, or has other queries than the first.
    """
    shown: dict[str, Rankings] = {}
    first: Shown | None = None
    for name, run in runs.items():
        opened = load(run).open_data(**target)
        if first is None:
            first = Shown(
                opened.plan.data.name,
                protocol_label(
                    protocol_of(opened.plan, target.get("protocol", "")),
                    [split.absent for split in opened.splits],
                ),
                data_fingerprint(opened.plan, opened.splits, opened.encoding).short,
                opened.splits,
                shown,
            )
        _check_same(first.splits, opened.splits, next(iter(runs)), name)
        ranks: list[int] = []
        top: list[list[str]] = []
        for split in opened.splits:
            encoded = encode_split(opened.method, split, opened.encoding)
            ranks += target_ranks(opened.method, encoded).tolist()
            top += rankings(opened.method, encoded, k)
        shown[name] = ranks, top
    if first is None:
        raise CIRError("there is no run to show; accepted: one run folder or several")
    return first


def _check_same(one: Sequence[Split], other: Sequence[Split], first: str, name: str) -> None:
    """Check that two runs rank the same images for the same triplets; their texts may differ.

    Raises:
        CIRError: If they do not.
    """

    def triplets(split: Split) -> list[tuple[object, ...]]:
        return [(q.id, q.reference, q.target, q.captions) for q in split.queries]

    same = len(one) == len(other) and all(
        (a.name, a.gallery, a.drop_reference, triplets(a))
        == (b.name, b.gallery, b.drop_reference, triplets(b))
        for a, b in zip(one, other, strict=True)
    )
    if not same:
        raise CIRError(
            f"runs '{first}' and '{name}' are of different queries or galleries\n"
            "accepted: the same for all, such as --data NAME --root DIR --protocol NAME"
        )
