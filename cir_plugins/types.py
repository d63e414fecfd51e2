"""What the parts of the project hand to one another: frozen records, one batch, three protocols.

Letters used in every shape: B queries in a batch, U distinct images in it, C candidate columns,
Q queries of a split, N gallery images, D embedding size, T tokens of an image, K mined negatives.
Scores: higher is closer. Embeddings have unit length. Measures are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from cir_plugins.texts import Captions

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Features: TypeAlias = Any
"""A tensor, or a named tuple of tensors, with the images along the leading dimension."""

Tokens: TypeAlias = "Mapping[str, Tensor]"
"""Names -> token tensors with the texts along the leading dimension."""


@dataclass(frozen=True)
class Query:
    """One composed query: a reference image and what to change in it.

    Attributes:
        id: Unique within its split.
        reference: Image id of the reference.
        captions: The raw captions of the triplet, one or more.
        text: The captions joined the way the split's protocol joins them.
        target: Image id of the named target; None in blind test splits.
        answers: Image ids of every right answer, the named target first; empty in blind splits.
        category: Category the data set files the triplet under, or "".
        group: Image ids of the subset that subset recall ranks (CIRR), reference excluded.
        changed: Names of the attributes that the text changes, where the data says so.
    """

    id: str
    reference: str
    captions: tuple[str, ...]
    text: str
    target: str | None = None
    answers: tuple[str, ...] = ()
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


@dataclass
class Batch:
    """What a training step works on; every distinct image appears once.

    Attributes:
        images: (U, 3, H, W) pixels, or None when ``features`` are given.
        features: Backbone features of the U images, or None when ``images`` are given.
        reference: (B,) index of each query's reference among the U images; -1 for one that
            another process has.
        candidates: (C,) index of each candidate column among the U images, likewise; no repeats.
        target: (B,) column of the answer.
        excluded: (B, C) bool, columns that may never be a negative of the row.
        text: B strings.
        tokens: Token tensors of ``text``, made by the backbone in the loader's worker.
        mined: (B, C) bool, columns mined for the row, or None when nothing was mined.
        views: Token tensors of further readings of the text that a method asked for, by name.
        rows: (B,) row of each query in the training table.
        changed: Names of the attributes that each text changes, where the data says so.
        image_index: (U,) index of each distinct image in the training table.
    """

    images: Tensor | None
    features: Features | None
    reference: Tensor
    candidates: Tensor
    target: Tensor
    excluded: Tensor
    text: list[str]
    tokens: Tokens
    mined: Tensor | None = None
    views: Mapping[str, Tokens] = field(default_factory=dict)
    rows: Tensor | None = None
    changed: list[tuple[str, ...]] = field(default_factory=list)
    image_index: Tensor | None = None


class Backbone(Protocol):
    """Images and texts to embeddings, an ``nn.Module``.

    ``preprocess`` and ``tokenize`` run in loader workers.

    Attributes:
        frozen_features: True when ``features`` never changes, so that it may be computed once.
        offers: Names of what it gives beyond this protocol (see ``cir_plugins.method``).
    """

    frozen_features: bool
    offers: frozenset[str]

    def preprocess(self, image: Image) -> Tensor:
        """Pixels (3, H, W) of an RGB image, ready for ``features``."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token tensors, each with the texts along the leading dimension."""

    def features(self, images: Tensor) -> Features:
        """Features of images (U, 3, H, W), leading dimension U."""

    def query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed query embeddings (B, D) of unit length; features and tokens have B entries."""

    def target(self, features: Features) -> Tensor:
        """Candidate embeddings (C, D) or (C, T, D) of unit length."""

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine scores (B, C); the best of T tokens where candidates have several."""


class Sampler(Protocol):
    """Which candidates are negatives of a query. Stateless, no randomness, knows nothing of CIR."""

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool, from scores (Q, N), target columns (Q,) and exclusions (Q, N)."""


class Loss(Protocol):
    """A price per query.

    A loss may carry ``coupled = True``, where a row's price depends on the other rows, and
    ``batch_only = True``, where it asks back from each target to the batch's queries, so that
    mined negatives, which have no query, are refused.

    Attributes:
        scaled: Whether it wants scores over the temperature, not cosines.
    """

    scaled: bool

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Unreduced loss (B,) of scores (B, C), target columns (B,) and negatives (B, C) bool."""
