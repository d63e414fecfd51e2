"""What the parts of the project hand to one another: frozen records, one batch, three protocols.

Letters used in every shape: B queries in a batch, U distinct images in it, C candidate columns,
Q queries of a split, N gallery images, D embedding size, T tokens of an image, K mined negatives.
Scores: higher is closer. Embeddings have unit length. Measures are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

Features: TypeAlias = Any
"""A tensor, or a named tuple of tensors, with the images along the leading dimension."""

Tokens: TypeAlias = "Mapping[str, Tensor]"
"""Names -> token tensors with the texts along the leading dimension."""


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
        text_variants: Token tensors of further readings of the text, by their name in the method.
        triplet_index: (B,) triplet of each query in the training table.
        changed: Names of the attributes that each text changes, where the data names them.
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
    text_variants: Mapping[str, Tokens] = field(default_factory=dict)
    triplet_index: Tensor | None = None
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

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed query embeddings (B, D) of unit length; features and tokens have B entries."""

    def encode_gallery(self, features: Features) -> Tensor:
        """Candidate embeddings (C, D) or (C, T, D) of unit length."""

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosine scores (B, C); the best of T tokens where candidates have several."""


class Sampler(Protocol):
    """Which candidates are negatives of a query. Stateless, no randomness, knows nothing of CIR."""

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool, from scores (Q, N), target columns (Q,) and exclusions (Q, N)."""


class Loss(Protocol):
    """a per-query loss.

    A loss may carry ``batch_dependent = True``, where a row's price depends on the other rows, and
    ``in_batch_only = True``, where it asks back from each target to the batch's queries, so that
    mined negatives, which have no query, are refused.

    Attributes:
        scaled: Whether it wants scores over the temperature, not cosines.
    """

    scaled: bool

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Unreduced loss (B,) of scores (B, C), target columns (B,) and negatives (B, C) bool."""


@dataclass(frozen=True)
class Generated:
    """A data set that a generator wrote.

    Attributes:
        dataset: Name of the reader whose layout it has.
        lines: What was written, in words.
    """

    dataset: str
    lines: tuple[str, ...]


class Generator(Protocol):
    """Draws a data set; the options of its factory say how."""

    def __call__(
        self,
        folder: Path,
        *,
        images: int,
        seed: int = 0,
        workers: int | None = None,
        progress: bool = True,
    ) -> Generated:
        """The data set, written whole or not at all; the same seed gives the same bytes.

        Args:
            folder: A new or empty folder.
            images: Number of images.
            seed: Seed of everything that is drawn.
            workers: Processes that draw; None for one per core.
            progress: Whether a bar is shown.

        Raises:
            CIRError: If the folder is in use or cannot be written, or a number is out of range.
        """
