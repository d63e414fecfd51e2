"""Image files to features and embeddings: loaded in worker processes, encoded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from cir_plugins.data.images import open_image
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.cache import FeatureCache, Shelf
from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.filling import fill
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, each, select, size_in_bytes
from cir_plugins.types import Features

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoding:
    """Where and how images are encoded.

    Attributes:
        device: Device of the model.
        dtype: Autocast dtype; fp32 for none.
        workers: Loader processes.
        batch_size: Images per forward pass.
        progress: Whether bars are shown.
        cache: Features on disk, or None.
        finished: Whether the weights change no more, so that features of a trained tower may be
            kept too.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    workers: int = 0
    batch_size: int = 64
    progress: bool = True
    cache: FeatureCache | None = None
    finished: bool = False


class ImageFiles(Dataset[Tensor]):
    """Preprocessed images (3, H, W) of files."""

    def __init__(self, paths: Sequence[Path], preprocess: Callable[[Any], Tensor]) -> None:
        self.paths = list(paths)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """The image at ``index``."""
        return self.preprocess(open_image(self.paths[index]))


class Guarded(Dataset[Any]):
    """Items of a data set, a ``CIRError`` handed over as an item.

    Raised in a worker it would reach the user with the worker's traceback in its message.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        """The item, or the error in its place."""
        try:
            return self.source[index]
        except CIRError as error:
            return error


def unguarded(item: Any) -> Any:
    """An item of a guarded data set.

    Raises:
        CIRError: If it is one.
    """
    if isinstance(item, CIRError):
        raise item
    return item


def _collate(items: list[Any]) -> Any:
    errors = [item for item in items if isinstance(item, CIRError)]
    return errors[0] if errors else default_collate(items)


def feature_chunks(
    backbone: Any, paths: Sequence[Path], encoding: Encoding, title: str
) -> Iterator[tuple[Tensor, Features]]:
    """Chunks of (indices, features on the device), each image opened and encoded once, in order.

    The backbone should be in evaluation mode; no gradient is kept. Where the encoding has a cache
    and the features do not change, those it holds are read from it.
    """
    cache = encoding.cache
    if cache is None or not (backbone.frozen_features or encoding.finished):
        yield from _computed(backbone, paths, encoding, title)
        return
    shelf = cache.shelf(backbone, encoding.dtype, encoding.device)

    def encode(some: Sequence[Path]) -> Iterator[tuple[Tensor, Features]]:
        return _computed(backbone, some, encoding, title)

    for index, features in cache.chunks(shelf, paths, encoding.batch_size, encode):
        yield index, each(features, lambda part: part.to(encoding.device))


def _computed(
    backbone: Any, paths: Sequence[Path], encoding: Encoding, title: str
) -> Iterator[tuple[Tensor, Features]]:
    loader = DataLoader(
        Guarded(ImageFiles(paths, backbone.preprocess)),
        batch_size=encoding.batch_size,
        num_workers=min(encoding.workers, -(-len(paths) // encoding.batch_size)),
        pin_memory=encoding.device.type == "cuda",
        collate_fn=_collate,
        generator=torch.Generator(),
    )
    first = 0
    for images in tqdm(loader, desc=title, disable=not encoding.progress, leave=False):
        images = unguarded(images).to(encoding.device, non_blocking=True)
        with torch.no_grad(), autocast(encoding.device, encoding.dtype):
            features = backbone.features(images)
        yield torch.arange(first, first + len(images)), features
        first += len(images)


class FeatureStore:
    """Features of all images in memory, for towers that never change.

    Args:
        features: Features, leading dimension N, on the CPU.
    """

    def __init__(self, features: Features) -> None:
        self.all = features

    @classmethod
    def build(
        cls,
        backbone: Any,
        paths: Sequence[Path],
        encoding: Encoding,
        limit_mb: int,
        processes: ProcessGroup | None = None,
    ) -> FeatureStore | None:
        """The store of the images, or None where it would exceed ``limit_mb`` MiB.

        Its size is known after the first chunk, before the rest is computed. Each process computes
        its share of the chunks that one alone would make, to the same bits, and gets the others'.

        Raises:
            CIRError: If an image cannot be read; in all processes.
        """
        processes = processes or ProcessGroup()
        parts = processes.slices(len(paths), encoding.batch_size)
        runs = [processes.shard_of(parts, rank) for rank in range(processes.size)]
        own = processes.shard(len(paths), encoding.batch_size)
        chunks = _computed(backbone, paths[own.start : own.stop], encoding, "features")
        found: list[list[Features]] = [[] for _ in runs]
        for turn in range(max(map(len, runs))):
            counts = [len(run[turn]) if turn < len(run) else 0 for run in runs]
            with processes.synchronise_errors():
                mine = next(chunks, (None, None))[1]
            shared = each(processes.all_gather(mine, counts), lambda part: part.cpu())
            if not turn and size_in_bytes(shared) / sum(counts) * len(paths) > limit_mb * 2**20:
                return None
            first = 0
            for run, count in zip(found, counts, strict=True):
                run.append(each(shared, lambda part, i=first, n=count: part[i : i + n]))  # type: ignore[misc]
                first += count
        return cls(concatenate([part for run in found for part in run]))

    def __getitem__(self, index: Tensor) -> Features:
        """Features of the images at ``index``."""
        return select(self.all, index)

    def chunks(self, index: Tensor, encoding: Encoding) -> Iterator[tuple[Tensor, Features]]:
        """Chunks of (positions in ``index``, features on the device)."""
        for first in range(0, len(index), encoding.batch_size):
            positions = torch.arange(first, min(first + encoding.batch_size, len(index)))
            features = self[index[positions]]
            yield positions, each(features, lambda part: part.to(encoding.device))


class DiskStore(FeatureStore):
    """Features of all images in a cache on disk, read when they are asked for.

    Args:
        shelf: Holds them all.
        names: Content hash of each of the N images.
    """

    def __init__(self, shelf: Shelf, names: Sequence[str]) -> None:
        self.shelf = shelf
        self.names = list(names)

    def __getitem__(self, index: Tensor) -> Features:
        """Features of the images at ``index``."""
        return self.shelf.read([self.names[place] for place in index.tolist()])


def training_store(
    backbone: Any,
    paths: Sequence[Path],
    encoding: Encoding,
    limit_mb: int,
    augment: str,
    processes: ProcessGroup | None = None,
) -> FeatureStore | None:
    """Features of the training images, or None where they must be computed in every step.

    Args:
        backbone: In evaluation mode.
        paths: The training images.
        encoding: Where to encode; its cache is used where it has one.
        limit_mb: Memory the features may take, in MiB; larger ones stay on disk where there is a
            cache.
        augment: Augmentation of the training images.
        processes: The processes that share the work; each of them has all features then.

    Raises:
        CIRError: If an image cannot be read or the disk is full; in all processes.
    """
    processes = processes or ProcessGroup()
    frozen = backbone.frozen_features
    if not frozen or augment != "none":
        if encoding.cache is not None and processes.is_main:
            why = f"train.augment is '{augment}'" if frozen else "the backbone's tower is trained"
            _LOG.warning("feature cache not used for training: %s", why)
        return None
    cache = encoding.cache
    if cache is None:
        return (
            FeatureStore.build(backbone, paths, encoding, limit_mb, processes) if limit_mb else None
        )

    def encode(some: Sequence[Path]) -> Iterator[tuple[Tensor, Features]]:
        return _computed(backbone, some, encoding, "features")

    with processes.synchronise_errors():
        shelf = cache.shelf(backbone, encoding.dtype, encoding.device)
    names = fill(cache, shelf, paths, encoding.batch_size, encode, processes)
    store = DiskStore(shelf, names)
    in_memory = size_in_bytes(shelf.like) * len(paths) <= limit_mb * 2**20
    if not in_memory:
        return store
    with processes.synchronise_errors():
        return FeatureStore(store[torch.arange(len(paths))])
