"""Features on disk, computed once per image, weights and transform, whatever run asks for them."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.fingerprint import (
    backbone_fingerprint,
    constant_tensors,
    content_hash,
    plain_options,
    probe_pictures,
)
from cir_plugins.encoding.shards import SUFFIX, Shard, remove_stale, write_shard
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, count, each, narrowed, size_in_bytes, tensors_of
from cir_plugins.files import write_atomically
from cir_plugins.types import Features

SHARD_BYTES = 64 * 2**20
IMAGES = "images.json"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_LOG = logging.getLogger(__name__)

# Chunks of (positions, features) of files, as ``cir_plugins.encoding.features`` makes them.
Encode = Callable[[Sequence[Path]], Iterator[tuple[Tensor, Features]]]


class FeatureCache:
    """A folder of features that any number of processes read and add to.

    Args:
        folder: Made where it is missing.
        dtype: ``same`` stores features as they were computed; ``fp32``, ``fp16`` or ``bf16`` stores
            floating-point parts as that, and gives them back in the dtype they had.
    """

    def __init__(self, folder: Path, dtype: str = "same") -> None:
        self.folder = folder
        self.dtype = dtype
        self._known: WeakKeyDictionary[nn.Module, tuple[Any, Shelf]] = WeakKeyDictionary()
        self._shelves: dict[str, Shelf] = {}
        self._contents: dict[str, str] | None = None

    def shelf(self, backbone: Any, compute: torch.dtype, device: torch.device) -> Shelf:
        """The part of the cache that belongs to a backbone's weights, options and transform.

        Args:
            backbone: In evaluation mode.
            compute: Precision in which features are computed.
            device: Where.
        """
        known = self._known.get(backbone)
        if known is None or known[0] != (_state(backbone), compute):
            like = _probe_features(backbone, compute, device)
            shapes = [(part.dtype, tuple(part.shape)) for part in tensors_of(like)]
            extra = f"{compute} {self.dtype} {shapes}"
            key = backbone_fingerprint(backbone, constant_tensors(backbone), extra)
            if key not in self._shelves:
                stored = DTYPES.get(self.dtype)
                self._shelves[key] = Shelf(self.folder / key, stored, like)
            # After the probe, in which a backbone may have noted something.
            known = (_state(backbone), compute), self._shelves[key]
            self._known[backbone] = known
        return known[1]

    def contents(self, paths: Sequence[Path]) -> list[str]:
        """Hash of each file's bytes; a file of the same size and time is not read again.

        Raises:
            CIRError: If a file cannot be read.
        """
        if self._contents is None:
            self._contents = _read_table(self.folder / IMAGES)
        before = len(self._contents)
        found = [self._content(path, self._contents) for path in paths]
        if len(self._contents) > before:
            # Another process may have added to it since; what a race loses is only read again.
            self._contents = {**_read_table(self.folder / IMAGES), **self._contents}
            write_atomically(self.folder / IMAGES, json.dumps(self._contents).encode(), shared=True)
        return found

    def _content(self, path: Path, known: dict[str, str]) -> str:
        try:
            stat = path.stat()
            key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
            if key not in known:
                known[key] = content_hash(path)
        except OSError as error:
            raise CIRError(f"image {path} cannot be read: {error}") from error
        return known[key]

    def chunks(
        self, shelf: Shelf, paths: Sequence[Path], size: int, encode: Encode
    ) -> Iterator[tuple[Tensor, Features]]:
        """Chunks of (indices, features on the CPU or where they were computed), in order.

        A chunk is encoded whole where any of its images is missing, so that an image is computed
        in the same company, and to the same bits, as without a cache.

        Args:
            shelf: Of the backbone.
            paths: Images.
            size: Images per chunk.
            encode: Makes chunks of ``size`` of the paths it is given.

        Raises:
            CIRError: If the disk has less room than the missing features take.
        """
        names = self.contents(paths)
        chunks = [range(i, min(i + size, len(paths))) for i in range(0, len(paths), size)]
        absent = [any(names[i] not in shelf for i in chunk) for chunk in chunks]
        wanted = [i for chunk, gone in zip(chunks, absent, strict=True) if gone for i in chunk]
        shelf.announce(len({names[i] for i in wanted if names[i] not in shelf}))
        fresh = encode([paths[i] for i in wanted]) if wanted else iter(())
        try:
            for chunk, gone in zip(chunks, absent, strict=True):
                own = [names[i] for i in chunk]
                features = shelf.add(own, next(fresh)[1]) if gone else shelf.read(own)
                yield torch.arange(chunk.start, chunk.stop), features
        finally:
            shelf.flush()


class Shelf:
    """Features of images under one key.

    Args:
        folder: Folder of the key.
        stored: Dtype of floating-point parts on disk; None for their own.
        like: Features (1, ...) of any image: kind, shapes and dtypes.
    """

    def __init__(self, folder: Path, stored: torch.dtype | None, like: Features) -> None:
        self.folder = folder
        self.stored = stored
        self.like = like
        self._places: dict[str, tuple[Shard, int]] = {}
        self._waiting: dict[str, Features] = {}
        self._waiting_bytes = 0
        self._seen: set[str] = set()
        remove_stale(folder)
        self.refresh()

    @property
    def bytes_per_image(self) -> int:
        """What an image takes on disk."""
        stored = self.stored
        return sum(
            part.numel() * (stored if stored and part.is_floating_point() else part.dtype).itemsize
            for part in tensors_of(self.like)
        )

    @property
    def images(self) -> int:
        """How many images are on disk."""
        return len(self._places)

    def refresh(self) -> None:
        """Take note of shards that are new."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name not in self._seen:
                self._seen.add(path.name)
                shard = Shard(path)
                for place, name in enumerate(shard.names):
                    self._places.setdefault(name, (shard, place))

    def __contains__(self, name: str) -> bool:
        return name in self._places or name in self._waiting

    def announce(self, images: int) -> None:
        """Say what will be written.

        Raises:
            CIRError: If the disk has less room.
        """
        if not images:
            return
        need = images * self.bytes_per_image
        there = self.folder
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        told = f"{images} images x {self.bytes_per_image} bytes = {need / 2**20:.1f} MiB"
        if need > free:
            raise CIRError(
                f"feature cache {self.folder} needs {told}, but {free / 2**20:.1f} MiB are free; "
                "accepted: another folder, or run.feature_cache_dtype=fp16"
            )
        _LOG.warning("feature cache %s: writing %s", self.folder, told)

    def add(
        self, names: Sequence[str], features: Features, kept: Container[str] | None = None
    ) -> Features:
        """The features as the cache will give them back; those it lacks are written.

        Args:
            names: Content hashes of the images.
            features: Their features.
            kept: Which of them are written; all if left out.
        """
        accepted = "run.feature_cache_dtype=bf16 or same"
        packed = narrowed(features, self.stored, f"feature cache {self.folder}", accepted)
        for place, name in enumerate(names):
            if name not in self and (kept is None or name in kept):
                row = each(packed, lambda part, i=place: part[i : i + 1].cpu().clone())  # type: ignore[misc]
                self._waiting[name] = row
                self._waiting_bytes += size_in_bytes(row)
        if self._waiting_bytes >= SHARD_BYTES:
            self.flush()
        return self._unpacked(packed)

    def flush(self) -> None:
        """Write what is waiting to disk."""
        if not self._waiting:
            return
        whole = concatenate(list(self._waiting.values()))
        path = self.folder / f"{secrets.token_hex(8)}{SUFFIX}"
        write_shard(path, tensors_of(whole), list(self._waiting), {})
        self._waiting, self._waiting_bytes = {}, 0
        self.refresh()

    def read(self, names: Sequence[str]) -> Features:
        """Features of images, leading dimension n, on the CPU; n may be 0."""
        if not names:  # of a process without rows of a batch
            return each(self.like, lambda part: part[:0])
        rows = [self._row(name) for name in names]
        return self._unpacked(concatenate(rows))

    def _row(self, name: str) -> Features:
        if name in self._waiting:
            return self._waiting[name]
        shard, place = self._places[name]
        row = shard.row(place)
        return row[0] if isinstance(self.like, Tensor) else type(self.like)(*row)

    def _unpacked(self, features: Features) -> Features:
        if isinstance(features, Tensor):
            return features.to(self.like.dtype)
        pairs = zip(features, self.like, strict=True)
        return type(features)(*(part.to(like.dtype) for part, like in pairs))


def _state(backbone: Any) -> tuple[Any, ...]:
    """What tells, without reading the weights, whether a key still holds."""
    tensors = [(id(value), value._version) for _, value in constant_tensors(backbone)]
    return tensors, plain_options(backbone)


def _probe_features(backbone: Any, compute: torch.dtype, device: torch.device) -> Features:
    pixels = backbone.preprocess(probe_pictures()[0])[None].to(device)
    with torch.no_grad(), autocast(device, compute):
        features: Features = each(backbone.features(pixels), lambda part: part.cpu())
    if count(features) != 1:
        raise ValueError("features of one image must have leading dimension 1")
    return features


def _read_table(path: Path) -> dict[str, str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
