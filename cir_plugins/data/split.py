"""Queries and the splits of a data set, as readers give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cir_plugins.data.captions import Captions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Query:
    """One composed query: a reference image and what to change in it.

    Attributes:
        id: Unique within its split.
        reference: Image id of the reference.
        captions: The raw captions of the triplet, one or more.
        text: The captions joined the way the split's protocol joins them.
        target: Image id of the target; None in blind test splits.
        positives: Image ids of every positive, the target first; empty in blind splits.
        category: Category the data set files the triplet under, or "".
        group: Image ids of the subset that subset recall ranks (CIRR), reference excluded.
        changed: Names of the attributes that the text changes, where the data names them.
    """

    id: str
    reference: str
    captions: tuple[str, ...]
    text: str
    target: str | None = None
    positives: tuple[str, ...] = ()
    category: str = ""
    group: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Queries and the gallery to search for them.

    Attributes:
        name: For example ``dress.val``; unique among the splits a reader gives.
        role: What the split is for.
        queries: In the order of the annotation file.
        gallery: Image ids that are ranked, without repeats, in a fixed order (ties in a ranking go
            to the lower index).
        paths: Image id -> file, for the gallery and for every reference.
        drop_reference: Whether a query's reference leaves its ranking.
        measures: Measures of the protocol, such as ``recall@10``.
        main: Measures whose mean is the protocol's one number, used to choose checkpoints.
        captions: How captions become a text; training may draw anew each epoch.
        absent: What was left out, as its image is missing or its row is of no use: counts by name.
    """

    name: str
    role: Literal["train", "val", "test"]
    queries: tuple[Query, ...]
    gallery: tuple[str, ...]
    paths: Mapping[str, Path]
    drop_reference: bool = False
    measures: tuple[str, ...] = ("recall@1", "recall@5", "recall@10", "recall@50")
    main: tuple[str, ...] = ("recall@10", "recall@50")
    captions: Captions = field(default_factory=Captions)
    absent: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def arrays(self) -> SplitArrays:
        """The split's ids as indices, computed once."""
        return SplitArrays.of(self)


@dataclass(frozen=True)
class SplitArrays:
    """The ids of a split's Q queries as indices into its N gallery images; -1 is no image.

    Attributes:
        images: The gallery's ids, then those of references outside it.
        reference: (Q,) int64 index of the reference among ``images``: N or more outside the
            gallery.
        positives: (Q, A) int64 gallery indices, the target first.
        counts: (Q,) int64 number of positives, inside the gallery or not; at least 1.
        blind: (Q,) bool, queries without a target.
        group: (Q, G) int64 gallery indices of the subset, ascending; None where no query has one.
    """

    images: tuple[str, ...]
    reference: Tensor
    positives: Tensor
    counts: Tensor
    blind: Tensor
    group: Tensor | None

    @property
    def target(self) -> Tensor:
        """(Q,) int64 gallery index of the target."""
        return self.positives[:, 0]

    @classmethod
    def of(cls, split: Split) -> SplitArrays:
        """The indices of a split with one query or more."""
        import torch  # reading and checking data does without

        index = {name: number for number, name in enumerate(split.gallery)}
        positives = [_positives(query, index) for query in split.queries]
        groups = [
            sorted({index[name] for name in query.group if name in index})
            for query in split.queries
        ]
        grouped = any(query.group for query in split.queries)
        for query in split.queries:
            index.setdefault(query.reference, len(index))
        return cls(
            tuple(index),
            torch.tensor([index[query.reference] for query in split.queries]),
            _padded(positives),
            torch.tensor([max(1, len(query.positives)) for query in split.queries]),
            torch.tensor([query.target is None for query in split.queries]),
            _padded(groups) if grouped else None,
        )


def left_out(absent: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Counts of what splits lack, for each and in ``total``; {} where none lacks anything."""
    splits = {split: dict(counts) for split, counts in absent.items() if counts}
    total: Counter[str] = Counter()
    for counts in splits.values():
        total.update(counts)
    return {"splits": splits, "total": dict(total)} if splits else {}


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Counts by name in words: ``2 queries, 3 gallery images``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _positives(query: Query, index: Mapping[str, int]) -> list[int]:
    """Gallery indices of the positives, the target first; -1 for one that is not there."""
    names = [query.target, *(name for name in query.positives if name != query.target)]
    return [-1 if name is None else index.get(name, -1) for name in names]


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """The rows as one matrix of one column or more, -1 where a row is shorter."""
    import torch

    width = max([1, *map(len, rows)])
    return torch.tensor([[*row, *([-1] * (width - len(row)))] for row in rows])
