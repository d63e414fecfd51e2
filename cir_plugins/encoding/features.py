"""Features of image files, which are loaded in worker processes and encoded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.loading import image_loader, loaded, unguarded
from cir_plugins.encoding.store import FeatureStore
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, count, each, select, size_in_bytes
from cir_plugins.types import Features

_LOG = logging.getLogger(__name__)
_CPU_PASS = 16


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
        finished: Whether the weights change no more, so that features of a trained tower are
            cached too.
        fixed: Whether all forward passes have ``pass_size`` images, so that the features of an
            image do not depend on the images beside it: kernels round by the shape of their input.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    workers: int = 0
    batch_size: int = 64
    progress: bool = True
    cache: FeatureCache | None = None
    finished: bool = False
    fixed: bool = False

    @property
    def pass_size(self) -> int:
        """Images and queries of a forward pass of fixed shape.

        Few on a CPU, where a pass that is not full costs most.
        """
        return min(self.batch_size, _CPU_PASS) if self.device.type == "cpu" else self.batch_size


def _collate(items: list[Any]) -> Any:
    errors = [item for item in items if isinstance(item, CIRError)]
    return errors[0] if errors else default_collate(items)


def feature_batches(
    backbone: Any, paths: Sequence[Path], encoding: Encoding, title: str
) -> Iterator[tuple[Tensor, Features]]:
    """Batches of (indices, features on the device), each image opened and encoded once, in order.

    The backbone should be in evaluation mode; no gradient is kept. Where the encoding has a cache
    and the features do not change, those it holds are read from it.
    """
    cache = encoding.cache
    if cache is None or not (backbone.frozen_features or encoding.finished):
        yield from _encoded_batches(backbone, paths, encoding, title)
        return
    store = cache.store(backbone, encoding.dtype, encoding.device)

    def encode(files: Sequence[Path]) -> Iterator[tuple[Tensor, Features]]:
        return _encoded_batches(backbone, files, encoding, title)

    for index, features in cache.batches(store, paths, encoding.batch_size, encode):
        yield index, each(features, lambda tensor: tensor.to(encoding.device))


def _encoded_batches(
    backbone: Any, paths: Sequence[Path], encoding: Encoding, title: str
) -> Iterator[tuple[Tensor, Features]]:
    loader = image_loader(
        paths,
        backbone.preprocess,
        batch_size=encoding.batch_size,
        workers=encoding.workers,
        pinned=encoding.device.type == "cuda",
        collate=_collate,
    )
    first = 0
    bar = {"total": len(loader), "desc": title, "disable": not encoding.progress, "leave": False}
    for images in tqdm(loaded(loader), **bar):
        images = unguarded(images).to(encoding.device, non_blocking=True)
        with torch.no_grad(), autocast(encoding.device, encoding.dtype):
            if encoding.fixed:
                features = by_shape(backbone.features, images, encoding.pass_size)
            else:
                features = backbone.features(images)
        yield torch.arange(first, first + len(images)), features
        first += len(images)


def by_shape(function: Callable[[Any], Features], images: Features, size: int) -> Features:
    """Result of a function of images or their features, in passes that all have ``size`` of them.

    The last one is filled with its last image, whose further results are left out.
    """
    number = count(images)
    if number == size:
        return function(images)
    index = torch.arange(-(-number // size) * size).clamp(max=number - 1)
    results = concatenate([function(select(images, rows)) for rows in torch.split(index, size)])
    return each(results, lambda tensor: tensor[:number])


class TrainingFeatures:
    """Features of the training images, encoded once, in memory.

    Args:
        features: Of the N images, leading dimension N, on the CPU.
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    @classmethod
    def build(
        cls,
        backbone: Any,
        paths: Sequence[Path],
        encoding: Encoding,
        limit_mb: int,
        processes: ProcessGroup | None = None,
    ) -> TrainingFeatures | None:
        """Features of the images, or None where they would exceed ``limit_mb`` MiB.

        Their size is known after the first batch, before the rest is computed. Each process
        encodes its share of the batches that one alone would make, to the same bits, and gets the
        others'.

        Raises:
            CIRError: If an image cannot be read; in all processes.
        """
        processes = processes or ProcessGroup()
        batches = processes.slices(len(paths), encoding.batch_size)
        shares = [processes.shard_of(batches, rank) for rank in range(processes.size)]
        local = processes.shard(len(paths), encoding.batch_size)
        encoded = _encoded_batches(backbone, paths[local.start : local.stop], encoding, "features")
        gathered: list[list[Features]] = [[] for _ in shares]
        for turn in range(max(map(len, shares))):
            counts = [len(share[turn]) if turn < len(share) else 0 for share in shares]
            with processes.synchronise_errors():
                batch = next(encoded, (None, None))[1]
            features = each(processes.all_gather(batch, counts), lambda tensor: tensor.cpu())
            if not turn and size_in_bytes(features) / sum(counts) * len(paths) > limit_mb * 2**20:
                return None
            first = 0
            for batches_of_rank, own in zip(gathered, counts, strict=True):
                rows = slice(first, first + own)
                batches_of_rank.append(each(features, lambda tensor, rows=rows: tensor[rows]))  # type: ignore[misc]
                first += own
        return cls(concatenate([batch for share in gathered for batch in share]))

    def __getitem__(self, index: Tensor) -> Features:
        """Features of the images at ``index``."""
        return select(self._features, index)

    def batches(self, index: Tensor, encoding: Encoding) -> Iterator[tuple[Tensor, Features]]:
        """Batches of (positions in ``index``, features on the device)."""
        for first in range(0, len(index), encoding.batch_size):
            positions = torch.arange(first, min(first + encoding.batch_size, len(index)))
            features = self[index[positions]]
            yield positions, each(features, lambda tensor: tensor.to(encoding.device))


class DiskFeatures(TrainingFeatures):
    """Features of the training images in a cache on disk, read when they are needed.

    Args:
        store: Holds them all.
        names: Content hash of each of the N images.
    """

    def __init__(self, store: FeatureStore, names: Sequence[str]) -> None:
        self._store = store
        self._names = list(names)

    def __getitem__(self, index: Tensor) -> Features:
        """Features of the images at ``index``."""
        return self._store.read([self._names[number] for number in index.tolist()])


def training_features(
    backbone: Any,
    paths: Sequence[Path],
    encoding: Encoding,
    limit_mb: int,
    augment: str,
    processes: ProcessGroup | None = None,
) -> TrainingFeatures | None:
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
    cache, frozen = encoding.cache, backbone.frozen_features
    if not frozen or augment != "none":
        if cache is not None and processes.is_main:
            why = f"train.augment is '{augment}'" if frozen else "the backbone's tower is trained"
            _LOG.warning("feature cache not used for training: %s", why)
        return None
    if cache is None:
        if not limit_mb:
            return None
        return TrainingFeatures.build(backbone, paths, encoding, limit_mb, processes)

    def encode(files: Sequence[Path]) -> Iterator[tuple[Tensor, Features]]:
        return _encoded_batches(backbone, files, encoding, "features")

    with processes.synchronise_errors():
        store = cache.store(backbone, encoding.dtype, encoding.device)
    names = cache.fill(store, paths, encoding.batch_size, encode, processes)
    on_disk = DiskFeatures(store, names)
    if size_in_bytes(store.like) * len(paths) > limit_mb * 2**20:
        return on_disk
    with processes.synchronise_errors():
        return TrainingFeatures(on_disk[torch.arange(len(paths))])
