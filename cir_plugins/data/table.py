"""Training triplets over one numbering of their images, and what is never a negative of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cir_plugins.data.identical import positives_across, targets_across
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError


@dataclass(frozen=True)
class Triplet:
    """One training query with its images as indices.

    Attributes:
        query: The query.
        split: Which training split it belongs to; negatives come from that split's gallery.
        reference: Index of the reference image.
        target: Index of the target image.
        positives: Indices of every known positive: the annotated ones, then the targets of
            identical queries (the same reference and captions).
        order: Which of the query's texts this triplet has (0, or 1 in two-query modes).
    """

    query: Query
    split: int
    reference: int
    target: int
    positives: tuple[int, ...]
    order: int


# Seed of the draw of known positives: which are known is part of the data, not of a run.
_SHARE = 0


@dataclass(frozen=True)
class ImageLists:
    """Some images for each of R triplets, in one array.

    Attributes:
        starts: (R + 1,) int64, where each triplet's images start and the last one's end.
        images: (M,) int64 image indices, triplet after triplet.
    """

    starts: Tensor
    images: Tensor

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> ImageLists:
        """The lists of images, one for each triplet."""
        sizes = torch.tensor([0, *map(len, lists)])
        images = [image for images in lists for image in images]
        return cls(sizes.cumsum(0), torch.tensor(images, dtype=torch.long))

    def __getitem__(self, triplet: int) -> Tensor:
        """The images (m,) of one triplet."""
        return self.images[self.starts[triplet] : self.starts[triplet + 1]]

    def of_triplets(self, index: Tensor) -> ImageLists:
        """The lists of some triplets (r,), in that order."""
        rows = [self[triplet] for triplet in index.tolist()]
        sizes = torch.tensor([0, *map(len, rows)])
        return ImageLists(sizes.cumsum(0), torch.cat(rows) if rows else self.images[:0])

    def triplets(self) -> Tensor:
        """The triplet (M,) of each image, ascending."""
        return torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.starts.diff())

    def kept(self, mask: Tensor) -> ImageLists:
        """The lists without the images whose entry of the mask (M,) is False."""
        counts = torch.bincount(self.triplets()[mask], minlength=len(self.starts) - 1)
        return ImageLists(torch.cat([self.starts[:1], counts.cumsum(0)]), self.images[mask])

    def holds(self, image: Tensor) -> Tensor:
        """Whether each triplet's list holds its image of (R,): (R,) bool."""
        triplet = self.triplets()
        found = torch.zeros(len(image), dtype=torch.bool)
        found[triplet[self.images == image[triplet]]] = True
        return found


@dataclass(frozen=True)
class TripletArrays:
    """The indices of R training triplets.

    Attributes:
        split: (R,) int64 split.
        reference: (R,) int64 image.
        target: (R,) int64 image.
        positives: Every known positive of each triplet, without repeats.
        excluded: What is never a negative of each triplet, the false-negative mask, where all
            known positives are taken into account.
    """

    split: Tensor
    reference: Tensor
    target: Tensor
    positives: ImageLists
    excluded: ImageLists

    @classmethod
    def of(cls, triplets: Sequence[Triplet], splits: Sequence[Split]) -> TripletArrays:
        """The indices of the triplets."""
        return cls(
            torch.tensor([triplet.split for triplet in triplets]),
            torch.tensor([triplet.reference for triplet in triplets]),
            torch.tensor([triplet.target for triplet in triplets]),
            ImageLists.of([list(dict.fromkeys(triplet.positives)) for triplet in triplets]),
            ImageLists.of([_excluded(triplet, splits[triplet.split]) for triplet in triplets]),
        )


def _excluded(triplet: Triplet, split: Split) -> list[int]:
    """The positives, and the reference where it leaves the ranking; never the target."""
    images = dict.fromkeys(triplet.positives)
    if split.drop_reference:
        images[triplet.reference] = None
    images.pop(triplet.target, None)
    return list(images)


@dataclass(frozen=True)
class TrainingTable:
    """The triplets of all training splits over one numbering of their images.

    Attributes:
        splits: The training splits.
        images: Image ids; an image of several splits appears once.
        paths: The file of each image.
        triplets: The training triplets, split after split.
        negative_images: Per split the indices (N,) of the images that negatives are mined from.
        arrays: The triplets' indices.
        positives_across: Number of positives that are known only from identical queries.
    """

    splits: tuple[Split, ...]
    images: tuple[str, ...]
    paths: tuple[Path, ...]
    triplets: tuple[Triplet, ...]
    negative_images: tuple[Tensor, ...]
    arrays: TripletArrays
    positives_across: int = 0

    def excluded_images(self, known_positives: str | float) -> ImageLists:
        """Images that are never a negative of each triplet, its target left aside.

        Args:
            known_positives: ``all``: every known positive, and the reference where it leaves the
                ranking. ``target``: none but the target. A share in [0, 1]: each of the images of
                ``all`` with that probability, drawn once, the same for the same table.
        """
        excluded = self.arrays.excluded
        if known_positives == "all":
            return excluded
        share = 0.0 if isinstance(known_positives, str) else known_positives
        draws = torch.rand(len(excluded.images), generator=torch.Generator().manual_seed(_SHARE))
        return excluded.kept(draws < share)

    def reference_negatives(self, known_positives: str | float) -> Tensor:
        """The reference (R,) of each triplet, -1 where it is its target or a known positive."""
        reference, target = self.arrays.reference, self.arrays.target
        known, positives = self.excluded_images(known_positives), self.arrays.positives
        out = reference == target
        out |= known.holds(reference) & positives.holds(reference)
        return torch.where(out, -1, reference)


def training_table(
    splits: Sequence[Split], from_images: Literal["gallery", "targets"] = "gallery"
) -> TrainingTable:
    """The table of the training splits among these.

    Args:
        splits: Splits of any role.
        from_images: Images that negatives are mined from (``MiningSettings.from_images``).

    Raises:
        CIRError: If there is no training split, or none of its queries has a target.
    """
    training = tuple(split for split in splits if split.role == "train")
    if not training:
        names = ", ".join(split.name for split in splits) or "none"
        raise CIRError(f"the data set has no training split; its splits: {names}")
    index: dict[str, int] = {}
    paths: list[Path] = []
    for split in training:
        for name, path in split.paths.items():
            if name not in index:
                index[name] = len(paths)
                paths.append(path)
    triplets = tuple(
        _triplet(query, across, split, number, index)
        for number, split in enumerate(training)
        for query, across in zip(split.queries, targets_across(split.queries), strict=True)
    )
    if not triplets:
        raise CIRError("the training splits hold no query with a target and an image")
    images = [[index[name] for name in split.gallery] for split in training]
    if from_images == "targets":
        targets: list[set[int]] = [set() for _ in training]
        for triplet in triplets:
            targets[triplet.split].add(triplet.target)
        images = [sorted(members) for members in targets]
    return TrainingTable(
        training,
        tuple(index),
        tuple(paths),
        triplets,
        tuple(torch.tensor(members) for members in images),
        TripletArrays.of(triplets, training),
        sum(positives_across(split.queries) for split in training),
    )


def _triplet(
    query: Query, across: Sequence[str], split: Split, number: int, index: Mapping[str, int]
) -> Triplet:
    if query.target is None:
        raise CIRError(f"training query '{query.id}' has no target")
    known = dict.fromkeys((*query.positives, *across))
    positives = tuple(index[name] for name in known if name in index)
    texts = split.captions.texts(query.captions, query.category)
    order = texts.index(query.text) if query.text in texts else 0
    return Triplet(query, number, index[query.reference], index[query.target], positives, order)
