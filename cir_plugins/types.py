"""Types that cross rooms: the training batch, the component protocols, generated data sets.

Letters used in every shape: B queries in a batch, U distinct images in it, C candidate columns,
Q queries of a split, N gallery images, D embedding size, T tokens of an image, K mined negatives.
Scores: higher is closer. Embeddings have unit length. Measures are fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class GalleryVectors(Protocol):
    """The vectors of an index's pictures, as a search backend gets them: row i is picture i."""

    @property
    def keys(self) -> Tensor:
        """Keys (N,) int64 of the rows, 0 or more: of the same picture and file always the same."""

    @property
    def vectors(self) -> Tensor:
        """Vectors (N, D), or (N, T, D) with T tokens a picture; fp32 on the CPU, perhaps mapped."""

    def best(self, queries: Tensor, k: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of the first k of every query's ranking, by exact scoring.

        Args:
            queries: (q, D), or (q, S, D) where the method's queries have S vectors.
            k: At least 1.
            allowed: (N,) bool, rows that may be found; None for all.

        Returns:
            Best first, equal scores in the order of rows; where fewer than k rows are allowed the
            rest has score -inf and row -1.
        """

    def best_of(
        self,
        queries: Tensor,
        k: int,
        allowed: Tensor | None,
        find: Callable[[Tensor, int], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """As ``best``, among candidates: what ``find`` gives is scored exactly.

        Args:
            queries: As in ``best``.
            k: As in ``best``.
            allowed: As in ``best``.
            find: (n, D) vectors and a number -> that many keys (n, number) of the nearest entries,
                -1 where there are fewer; a key may come twice, or be of no row.
        """


class IndexBackend(Protocol):
    """A search backend, configured by the options of its factory: vectors under keys, in a folder.

    The host brings its store in line with the pictures: it asks for ``keys``, adds what is missing,
    removes what is left over. Whatever is interrupted is done again, so ``add`` of a key that is
    there and ``remove`` of one that is not must do no harm.

    Attributes:
        stores: False for a backend that reads the gallery's vectors and holds nothing of its own;
            ``keys``, ``add``, ``remove`` and ``flush`` are not called then.
    """

    stores: bool

    def open(self, folder: Path, dimension: int) -> None:
        """Open the store, empty at first.

        Args:
            folder: A folder for this backend alone, which may be missing.
            dimension: D.

        Raises:
            CIRError: If the store is damaged, of another dimension, or cannot be reached.
        """

    def keys(self) -> Tensor:
        """The keys (n,) int64 that are in the store, each once."""

    def add(self, keys: Tensor, vectors: Tensor) -> None:
        """Add vectors (n, D) under keys (n,) int64; the tokens of a picture have the same key."""

    def remove(self, keys: Tensor) -> None:
        """Remove all vectors of the keys (n,)."""

    def flush(self) -> None:
        """Make what was added and removed last: after this a killed process loses nothing of it."""

    def search(
        self, gallery: GalleryVectors, queries: Tensor, k: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), best first, as ``GalleryVectors.best`` describes them."""
