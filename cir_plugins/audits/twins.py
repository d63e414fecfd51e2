"""Near-duplicates of references and targets in the gallery, by embeddings or a perceptual hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from cir_plugins.data.perceptual_hash import BITS, perceptual_hashes
from cir_plugins.data.split import Split
from cir_plugins.retrieval.scores import rows_per_block

Likeness: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Twins:
    """Near-duplicates for each of a split's Q queries.

    Likeness is a cosine of the run's gallery vectors (of several tokens their mean), or the share
    of equal bits of two perceptual hashes: 1 is the same image.

    Attributes:
        near: Likeness from which two images are near-duplicates.
        of_target: (Q) further gallery images near the target.
        of_reference: (Q) further gallery images near the reference.
        nearest: (Q,) likeness of the target to the nearest other gallery image; NaN for none.
        pair: (Q,) likeness of reference and target; 1 for the same image.
    """

    near: float
    of_target: tuple[tuple[str, ...], ...]
    of_reference: tuple[tuple[str, ...], ...]
    nearest: Tensor = field(repr=False)
    pair: Tensor = field(repr=False)


def twins_by_embedding(split: Split, images: Tensor, near: float) -> Twins:
    """Near-duplicates by the cosine of gallery vectors.

    Args:
        split: A split whose every query has a target.
        images: (M, D) or (M, T, D) of ``split.arrays.images``.
        near: Least cosine.
    """
    flat = images.float() if images.dim() == 2 else images.float().mean(dim=1)
    vectors = torch.nn.functional.normalize(flat, dim=-1)

    def likeness(rows: Tensor) -> Tensor:
        return (vectors[rows.to(vectors.device)] @ vectors.T).cpu()

    return _twins(split, likeness, near, vectors.device)


def twins_by_hash(split: Split, near: float) -> Twins:
    """Near-duplicates by the perceptual hash of 64 bits (pHash) of the image files.

    Raises:
        CIRError: If imagehash is not installed, or an image cannot be read.
    """
    paths = [split.paths[name] for name in split.arrays.images]
    codes = perceptual_hashes(paths, "--duplicates embedding")

    def likeness(rows: Tensor) -> Tensor:
        differing = np.bitwise_count(codes[rows.numpy(), None] ^ codes[None, :])
        return torch.from_numpy(1 - differing.astype(np.float32) / BITS)

    return _twins(split, likeness, near, torch.device("cpu"))


def _twins(split: Split, likeness: Likeness, near: float, device: torch.device) -> Twins:
    """The near-duplicates, a block of images at a time."""
    arrays, size = split.arrays, len(split.gallery)
    wanted = torch.unique(torch.cat([arrays.reference, arrays.target]))
    wanted = wanted[wanted >= 0]
    close: dict[int, tuple[str, ...]] = {}
    nearest: dict[int, float] = {}
    pairs: dict[int, list[int]] = {}
    for query, target in enumerate(arrays.target.tolist()):
        pairs.setdefault(target, []).append(query)
    pair = torch.full((len(split.queries),), torch.nan)
    for rows in torch.split(wanted, rows_per_block(len(arrays.images), device)):
        block = likeness(rows)
        for row, values in zip(rows.tolist(), block, strict=True):
            for query in pairs.get(row, ()):
                same = int(arrays.reference[query]) == row
                pair[query] = 1.0 if same else values[arrays.reference[query]]
            inside = values[:size].clone()
            if row < size:
                inside[row] = -torch.inf
            close[row] = tuple(split.gallery[i] for i in (inside >= near).nonzero()[:, 0].tolist())
            nearest[row] = float(inside.max())
    return Twins(
        near,
        tuple(close.get(row, ()) for row in arrays.target.tolist()),
        tuple(close.get(row, ()) for row in arrays.reference.tolist()),
        torch.tensor([_finite(nearest.get(row)) for row in arrays.target.tolist()]),
        pair,
    )


def _finite(value: float | None) -> float:
    return float("nan") if value is None or value == float("-inf") else value
