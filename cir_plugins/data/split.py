"""Queries and the splits of a data set, as readers give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cir_plugins.data.captions import Captions

if TYPE_CHECKING:
    pass


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
        changed: Names of the attributes that the text changes, where the data says so.
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
    """Queries with the gallery they are asked of.

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
        absent: What was left out because its image is missing: counts by name.
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
