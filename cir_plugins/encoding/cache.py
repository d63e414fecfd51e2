"""A cache of features on disk, computed once per image, weights and transform for all runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.checksums import text_checksum
from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.fingerprint import (
    backbone_fingerprint,
    constant_tensors,
    content_hash,
    plain_options,
    probe_pictures,
)
from cir_plugins.encoding.shards import DTYPES, DamagedShardError
from cir_plugins.encoding.store import FeatureStore
from cir_plugins.errors import CIRError
from cir_plugins.features import count, each, tensors_of
from cir_plugins.files import read_json, remove_stale, write_json
from cir_plugins.types import Features

IMAGES = "images.json"
_LOG = logging.getLogger(__name__)

# Batches of (positions, features) of files, as ``cir_plugins.encoding.features`` makes them.
Encode = Callable[[Sequence[Path]], Iterator[tuple[Tensor, Features]]]


class FeatureCache:
    """A folder of features that any number of processes read and add to.

    Args:
        folder: Made where it is missing.
        dtype: ``same`` stores features as they were computed; ``fp32``, ``fp16`` or ``bf16`` stores
            floating-point tensors as that, and gives them back in the dtype they had.
    """

    def __init__(self, folder: Path, dtype: str = "same") -> None:
        self.folder = folder
        self.dtype = dtype
        self._current: WeakKeyDictionary[nn.Module, tuple[Any, FeatureStore]] = WeakKeyDictionary()
        self._stores: dict[str, FeatureStore] = {}
        self._hashes: dict[str, str] | None = None

    def store(self, backbone: Any, compute: torch.dtype, device: torch.device) -> FeatureStore:
        """The features of a backbone's weights, options and transform.

        Args:
            backbone: In evaluation mode.
            compute: Precision in which features are computed.
            device: Where.
        """
        current = self._current.get(backbone)
        if current is None or current[0] != (_state(backbone), compute):
            like = _probe_features(backbone, compute, device)
            shapes = [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors_of(like)]
            extra = f"{compute} {self.dtype} {shapes}"
            fingerprint = backbone_fingerprint(backbone, constant_tensors(backbone), extra)
            if fingerprint not in self._stores:
                dtype = DTYPES.get(self.dtype)
                self._stores[fingerprint] = FeatureStore(self.folder / fingerprint, dtype, like)
            # After the probe, in which a backbone may have noted something.
            current = (_state(backbone), compute), self._stores[fingerprint]
            self._current[backbone] = current
        return current[1]

    def contents(self, paths: Sequence[Path]) -> list[str]:
        """Hash of each file's bytes; a file of the same size and time is not read again.

        Raises:
            CIRError: If a file cannot be read.
        """
        if self._hashes is None:
            remove_stale(self.folder)
            self._hashes = _read_hashes(self.folder / IMAGES)
        before = len(self._hashes)
        hashes = [_hash_of(path, self._hashes) for path in paths]
        if len(self._hashes) > before:
            # Another process may have added to it since; what a race loses is only read again.
            self._hashes = {**_read_hashes(self.folder / IMAGES), **self._hashes}
            content = {"checksum": _checksum(self._hashes), "images": self._hashes}
            write_json(self.folder / IMAGES, content)
        return hashes

    def batches(
        self, store: FeatureStore, paths: Sequence[Path], size: int, encode: Encode
    ) -> Iterator[tuple[Tensor, Features]]:
        """Batches of (indices, features on the CPU or where they were computed), in order.

        A batch is encoded whole where any of its images is missing, so that each image is
        computed in the same batch, and to the same bits, as without a cache. Images of a damaged
        shard count as missing.

        Args:
            store: Of the backbone.
            paths: Images.
            size: Images per batch.
            encode: Makes batches of ``size`` of the paths it gets.

        Raises:
            CIRError: If the disk has less room than the missing features take.
        """
        names = self.contents(paths)
        done = 0
        while done < len(paths):
            starts = range(done, len(paths), size)
            try:
                for index, features in _batches(store, names, paths, starts, encode):
                    done = int(index[-1]) + 1
                    yield index, features
            except DamagedShardError:
                continue  # it left the store with a warning: the rest is looked up again

    def fill(
        self,
        store: FeatureStore,
        paths: Sequence[Path],
        size: int,
        encode: Encode,
        processes: ProcessGroup,
    ) -> list[str]:
        """Content hash of each image, once the store holds the verified features of all.

        The batches that lack an image are divided among the processes. Each is encoded whole; of
        an image in several batches, the first one's features are kept, as by one process alone, to
        the same bits. Where a process does not see what another wrote, as on a disk of its own, it
        encodes that too.

        Args:
            store: Of the backbone.
            paths: Images.
            size: Images per batch.
            encode: Makes batches of ``size`` of the paths it gets.
            processes: The processes; all have the same paths.

        Raises:
            CIRError: In all processes, if an image cannot be read, or the first one's disk has less
                room than the missing features take.
        """
        shard = processes.shard(len(paths))
        with processes.synchronise_errors():
            hashes = self.contents(paths[shard.start : shard.stop])
        names = [name for some in processes.all_gather_object(hashes) for name in some]
        batches = [range(i, min(i + size, len(paths))) for i in range(0, len(paths), size)]
        store.verify(names, processes)
        missing = processes.broadcast(lambda: _reserve_missing(store, names, batches))
        owner: dict[str, int] = {}  # the batch whose features of an image are kept
        for number in missing:
            for position in batches[number]:
                owner.setdefault(names[position], number)
        with processes.synchronise_errors():
            local = processes.shard_of(missing)
            files = [paths[position] for number in local for position in batches[number]]
            encoded = encode(files) if files else iter(())
            try:
                for number, (_, features) in zip(local, encoded, strict=True):
                    members = [names[position] for position in batches[number]]
                    store.add(members, features, {n for n in members if owner[n] == number})
            finally:
                store.flush()
        with processes.synchronise_errors():
            store.refresh()
        store.verify(names, processes)
        with processes.synchronise_errors():
            if any(name not in store for name in names):
                for _ in self.batches(store, paths, size, encode):
                    pass
        return names


def _batches(
    store: FeatureStore, names: Sequence[str], paths: Sequence[Path], starts: range, encode: Encode
) -> Iterator[tuple[Tensor, Features]]:
    """Batches of (indices, features) from a position on, read or encoded."""
    batches = [range(i, min(i + starts.step, starts.stop)) for i in starts]
    missing = set(_reserve_missing(store, names, batches))
    files = [paths[i] for number in sorted(missing) for i in batches[number]]
    encoded = encode(files) if files else iter(())
    try:
        for number, batch in enumerate(batches):
            members = [names[i] for i in batch]
            if number in missing:
                features = store.add(members, next(encoded)[1])
            else:
                features = store.read(members)
            yield torch.arange(batch.start, batch.stop), features
    finally:
        store.flush()


def _reserve_missing(
    store: FeatureStore, names: Sequence[str], batches: Sequence[range]
) -> list[int]:
    """Numbers of the batches that lack an image, once there is room on the disk for them."""
    missing = [k for k, batch in enumerate(batches) if any(names[i] not in store for i in batch)]
    store.reserve(len({names[i] for k in missing for i in batches[k] if names[i] not in store}))
    return missing


def _state(backbone: Any) -> tuple[Any, ...]:
    """What changes where a fingerprint no longer holds, without reading the weights."""
    tensors = [(id(value), value._version) for _, value in constant_tensors(backbone)]
    return tensors, plain_options(backbone)


def _probe_features(backbone: Any, compute: torch.dtype, device: torch.device) -> Features:
    pixels = backbone.preprocess(probe_pictures()[0])[None].to(device)
    with torch.no_grad(), autocast(device, compute):
        features: Features = each(backbone.features(pixels), lambda tensor: tensor.cpu())
    if count(features) != 1:
        raise ValueError("features of one image must have leading dimension 1")
    return features


def _hash_of(path: Path, hashes: dict[str, str]) -> str:
    """Hash of a file's bytes, from the table or added to it."""
    try:
        stat = path.stat()
        file = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if file not in hashes:
            hashes[file] = content_hash(path)
    except OSError as error:
        raise CIRError(f"image {path} cannot be read: {error}") from error
    return hashes[file]


def _read_hashes(path: Path) -> dict[str, str]:
    """The table of hashes; an empty one where it is missing or damaged, so that files are read."""
    try:
        if not path.exists():
            return {}
        content: Any = read_json(path)
        hashes: dict[str, str] = content["images"]
        if content["checksum"] != _checksum(hashes):
            raise ValueError("its checksum differs")
    except (CIRError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("feature cache: %s is not used: %s; images are hashed again", path, error)
        return {}
    return hashes


def _checksum(hashes: dict[str, str]) -> str:
    return text_checksum(json.dumps(hashes, sort_keys=True))
