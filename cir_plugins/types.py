"""Types that cross rooms: the training batch, the component protocols, generated data sets.

Letters used in every shape: B queries in a batch, U distinct images in it, C candidate columns,
Q queries of a split, N gallery images, D embedding size, T tokens of an image, K mined negatives.
Scores: higher is closer. Embeddings have unit length. Measures are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

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
    """A training batch; every distinct image appears once.

    Attributes:
        images: (U, 3, H, W) pixels; None with ``features``.
        features: Backbone features of the U images; None with ``images``.
        reference: (B,) index of each query's reference among the U images; -1 for an image of
            another process.
        candidates: (C,) index of each candidate column among the U images, likewise; no repeats.
        target: (B,) column of the target.
        excluded: (B, C) bool false-negative mask: columns that are never negatives of the query.
        text: B strings.
        tokens: Token tensors of ``text``, from the backbone's tokenizer.
        mined: (B, C) bool, mined negatives of each query; None without mining.
        text_variants: Token tensors of the method's text variants, by name.
        triplet_index: (B,) triplet of each query in the training table.
        changed: Names of the attributes that each text changes, where annotated.
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
        offers: Names of abilities beyond this protocol (see ``cir_plugins.method``).
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
    """Selection of negatives from scores: stateless, without randomness, independent of CIR."""

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool, from scores (Q, N), target columns (Q,) and exclusions (Q, N)."""


@runtime_checkable
class SamplerWithFallback(Sampler, Protocol):
    """A sampler that also marks the queries whose negatives come from outside its rule."""

    def negatives_and_fallback(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negatives (Q, N) bool, equal to those of a call, and queries (Q,) bool that fell back."""


@runtime_checkable
class SamplerWithWeights(Sampler, Protocol):
    """A sampler whose negatives are not drawn uniformly."""

    def weights(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Weights (Q, N) float that candidates are drawn with; 0 where a call leaves none."""


@runtime_checkable
class SamplerWithAmbiguity(Sampler, Protocol):
    """A sampler that also marks candidates which may be right, though nobody has marked them."""

    def ambiguous(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Candidates (Q, N) bool that are better no negatives; none that a call leaves."""


class Loss(Protocol):
    """A per-query loss.

    A loss may have ``batch_dependent = True``, if the loss of a query depends on the other queries,
    and ``in_batch_only = True``, if it is symmetric (target to queries, too) and so cannot take
    mined negatives, which have no query.

    Attributes:
        scaled: True for a loss on scores over the temperature, False for one on cosines.
    """

    scaled: bool

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Unreduced loss (B,) of scores (B, C), target columns (B,) and negatives (B, C) bool."""


@dataclass(frozen=True)
class Generated:
    """A generated data set.

    Attributes:
        dataset: Name of the reader of its layout.
        lines: Summary of the written files, for display.
    """

    dataset: str
    lines: tuple[str, ...]


class Generator(Protocol):
    """A generator of a data set, configured by the options of its factory."""

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
            seed: Seed of all draws.
            workers: Processes that draw; None for one per core.
            progress: Whether a bar is shown.

        Raises:
            CIRError: If the folder is in use or cannot be written, or a number is out of range.
        """
