"""Features of images on disk under one fingerprint: read, added to, and verified."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.checksums import in_threads
from cir_plugins.encoding.shards import (
    SUFFIX,
    DamagedShardError,
    OtherFormatError,
    Shard,
    ShardWriter,
)
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, each, tensors_of
from cir_plugins.files import remove_stale
from cir_plugins.types import Features

SHARD_BYTES = 64 * 2**20
_LOG = logging.getLogger(__name__)


class FeatureStore:
    """Features of images under one fingerprint.

    Args:
        folder: Folder of the fingerprint.
        dtype: Dtype of floating-point tensors on disk; None for their own.
        like: Features (1, ...) of any image: kind, shapes and dtypes.
    """

    def __init__(self, folder: Path, dtype: torch.dtype | None, like: Features) -> None:
        self.folder = folder
        self.dtype = dtype
        self.like = like
        accepted = "run.feature_cache_dtype=bf16 or same"
        self._writer = ShardWriter(f"feature cache {folder}", dtype, accepted)
        self._shards: dict[str, Shard] = {}  # by the name of the file
        self._locations: dict[str, tuple[Shard, int]] = {}
        self._seen: set[str] = set()
        remove_stale(folder)
        self.refresh()

    @property
    def bytes_per_image(self) -> int:
        """What an image takes on disk."""
        dtype = self.dtype
        return sum(
            tensor.numel()
            * (dtype if dtype and tensor.is_floating_point() else tensor.dtype).itemsize
            for tensor in tensors_of(self.like)
        )

    @property
    def images(self) -> int:
        """How many images are on disk."""
        return len(self._locations)

    def refresh(self) -> None:
        """Open the shards that are new."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                self._shards[path.name] = Shard(path)
            except OtherFormatError as error:
                _LOG.warning("feature cache: %s; it is not used", error)
            except DamagedShardError as error:
                self._remove(path.name, error)
            except CIRError:
                if path.exists():
                    raise
                # Another process has just removed it as damaged.
            else:
                self._index(self._shards[path.name])

    def _index(self, shard: Shard) -> None:
        for index, name in enumerate(shard.names):
            self._locations.setdefault(name, (shard, index))

    def _remove(self, file: str, reason: object) -> None:
        """Take a damaged shard out of the store and off the disk, with a warning."""
        _LOG.warning("feature cache: %s; its features are computed again", reason)
        self._forget(file)
        try:
            (self.folder / file).unlink(missing_ok=True)
        except OSError as error:
            _LOG.warning("%s cannot be removed: %s", self.folder / file, error)

    def _forget(self, file: str) -> None:
        """Take a shard out of the store."""
        if self._shards.pop(file, None) is not None:
            self._locations.clear()
            for shard in self._shards.values():
                self._index(shard)

    def verify(self, names: Sequence[str], processes: ProcessGroup) -> None:
        """Compare the shards of images with their checksums, and remove damaged ones.

        Each process reads some of the files that all of them see.

        Args:
            names: Content hashes of the images.
            processes: The processes that call this together.
        """
        locations = (self._locations.get(name) for name in names)
        files = sorted({pair[0].path.name for pair in locations if pair is not None})
        local = processes.shard_of(files)
        checks = in_threads(_check, [self._shards[file] for file in local])
        # Before the exchange: after it the process that found a damaged file may have removed it.
        inodes = {file: _inode(shard.path) for file, shard in self._shards.items()}
        for check in chain(*processes.all_gather_object(checks)):
            shard = self._shards.get(check.file)
            if shard is None or inodes[check.file] != check.inode:
                continue  # a file on another process's own disk
            if not check.damage:
                shard.verified = True
            elif check.file in local:
                self._remove(check.file, check.damage)
            else:
                self._forget(check.file)  # the process that read it removes it

    def __contains__(self, name: str) -> bool:
        return name in self._locations or name in self._writer

    def reserve(self, images: int) -> None:
        """Check that the disk has room for more images, and log what they take.

        Raises:
            CIRError: If the disk has less room.
        """
        if not images:
            return
        need = images * self.bytes_per_image
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        size = f"{images} images x {self.bytes_per_image} bytes = {need / 2**20:.1f} MiB"
        if need > free:
            raise CIRError(
                f"feature cache {self.folder} needs {size}, but {free / 2**20:.1f} MiB are free; "
                "accepted: another folder, or run.feature_cache_dtype=fp16"
            )
        _LOG.warning("feature cache %s: writing %s", self.folder, size)

    def add(
        self, names: Sequence[str], features: Features, selection: Container[str] | None = None
    ) -> Features:
        """The features as the store will give them back; those it lacks are written.

        Args:
            names: Content hashes of the images.
            features: Their features.
            selection: Which of them are written; all if left out.
        """
        new = {n for n in names if n not in self and (selection is None or n in selection)}
        packed = self._writer.add(names, features, new)
        if self._writer.size_in_bytes >= SHARD_BYTES:
            self.flush()
        return self._unpacked(packed)

    def flush(self) -> None:
        """Write what is waiting to disk."""
        if self._writer.size_in_bytes:
            self._writer.write(self.folder / f"{secrets.token_hex(8)}{SUFFIX}", {})
            self.refresh()

    def read(self, names: Sequence[str]) -> Features:
        """Features of images, leading dimension n, on the CPU; n may be 0.

        Raises:
            DamagedShardError: If one of them is in a damaged shard, which leaves the store.
        """
        if not names:  # of a process without rows of a batch
            return each(self.like, lambda tensor: tensor[:0])
        try:
            rows = [self._row(name) for name in names]
        except DamagedShardError as error:
            self._remove(error.path.name, error)
            raise
        return self._unpacked(concatenate(rows))

    def _row(self, name: str) -> Features:
        if name in self._writer:
            return self._writer.row(name)
        shard, index = self._locations[name]
        row = shard.row(index)
        return row[0] if isinstance(self.like, Tensor) else type(self.like)(*row)

    def _unpacked(self, features: Features) -> Features:
        if isinstance(features, Tensor):
            return features.to(self.like.dtype)
        pairs = zip(features, self.like, strict=True)
        return type(features)(*(tensor.to(like.dtype) for tensor, like in pairs))


@dataclass(frozen=True)
class _Check:
    """Outcome of verifying a shard.

    Attributes:
        file: Name of its file.
        inode: Number of the file on its disk, the same in processes that share the file.
        damage: What is wrong; "" for nothing.
    """

    file: str
    inode: int
    damage: str


def _check(shard: Shard) -> _Check:
    inode, damage = _inode(shard.path), ""
    try:
        shard.verify()
    except DamagedShardError as error:
        damage = str(error)
    return _Check(shard.path.name, inode, damage)


def _inode(path: Path) -> int:
    """Number of a file on its disk, 0 where it is gone."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
