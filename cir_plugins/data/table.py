"""Training rows over one numbering of their images, and what may never be a negative of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError


@dataclass(frozen=True)
class Row:
    """One training query with its images as numbers.

    Attributes:
        query: The query.
        split: Which training split it belongs to; negatives come from that split's gallery.
        reference: Index of the reference image.
        target: Index of the target image.
        positives: Indices of every known positive.
        order: Which of the triplet's texts this row is (0, or 1 in two-query modes).
    """

    query: Query
    split: int
    reference: int
    target: int
    positives: tuple[int, ...]
    order: int


@dataclass(frozen=True)
class TrainingTable:
    """The rows of all training splits over one numbering of their images.

    Attributes:
        splits: The training splits.
        images: Image ids; an image of several splits appears once.
        paths: The file of each image.
        rows: The training rows, split after split.
        pools: Per split the indices (N,) of the images that negatives are mined from.
        arrays: The rows' numbers.
    """

    splits: tuple[Split, ...]
    images: tuple[str, ...]
    paths: tuple[Path, ...]
    rows: tuple[Row, ...]
    pools: tuple[Tensor, ...]
    arrays: TripletArrays


def training_table(splits: Sequence[Split], pool: str = "gallery") -> TrainingTable:
    """The table of the training splits among the given ones; ``pool`` as ``mining.from_images``.

    Raises:
        CIRError: If there is no training split, or none of its queries has a target.
    """
    chosen = tuple(split for split in splits if split.role == "train")
    if not chosen:
        names = ", ".join(split.name for split in splits) or "none"
        raise CIRError(f"the data set has no training split; its splits: {names}")
    numbers: dict[str, int] = {}
    paths: list[Path] = []
    for split in chosen:
        for name, path in split.paths.items():
            if name not in numbers:
                numbers[name] = len(paths)
                paths.append(path)
    rows = [
        _row(query, split, index, numbers)
        for index, split in enumerate(chosen)
        for query in split.queries
    ]
    if not rows:
        raise CIRError("the training splits hold no query with a target and an image")
    pools = [[numbers[name] for name in split.gallery] for split in chosen]
    if pool == "targets":
        pools = [sorted({row.target for row in rows if row.split == n}) for n in range(len(chosen))]
    members, flat = tuple(torch.tensor(images) for images in pools), TripletArrays.of(rows)
    return TrainingTable(chosen, tuple(numbers), tuple(paths), tuple(rows), members, flat)


def _row(query: Query, split: Split, index: int, numbers: Mapping[str, int]) -> Row:
    if query.target is None:
        raise CIRError(f"training query '{query.id}' has no target")
    positives = tuple(numbers[name] for name in query.positives if name in numbers)
    texts = split.captions.texts(query.captions, query.category)
    order = texts.index(query.text) if query.text in texts else 0
    return Row(query, index, numbers[query.reference], numbers[query.target], positives, order)


def excluded_images(row: Row, split: Split, known_positives: str) -> set[int]:
    """Images that may never be a negative of the row, its target left aside."""
    if known_positives != "all":
        return set()
    images = {*row.positives, row.reference} if split.drop_reference else set(row.positives)
    return images - {row.target}


@dataclass(frozen=True)
class TripletArrays:
    """The numbers of R training rows with M positives between them.

    Attributes:
        split: (R,) int64 split of each row.
        reference: (R,) int64 image.
        target: (R,) int64 image.
        answered: (M,) int64 row of each known positive, ascending.
        answer: (M,) int64 image of it; in a row each image appears once.
    """

    split: Tensor
    reference: Tensor
    target: Tensor
    answered: Tensor
    answer: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> TripletArrays:
        """The numbers of the rows."""
        positives = [
            (number, i) for number, row in enumerate(rows) for i in dict.fromkeys(row.positives)
        ]
        answered, answer = torch.tensor(positives).long().view(-1, 2).unbind(1)
        return cls(
            torch.tensor([row.split for row in rows]),
            torch.tensor([row.reference for row in rows]),
            torch.tensor([row.target for row in rows]),
            answered.contiguous(),
            answer.contiguous(),
        )
