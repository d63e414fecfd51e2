"""Features on disk: shards of images, each written whole or not at all, read memory-mapped.

A shard is a safetensors file with one tensor per tensor of the features (``part0``, ...), images
along dimension 0. Its metadata holds plain facts, the images' names among them, and a checksum of
these facts and of each tensor. A process never changes a shard that is there, so any number of
them may read and write one folder.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from cir_plugins.encoding.checksums import Checksums, sliced_checksum
from cir_plugins.errors import CIRError
from cir_plugins.features import concatenate, each, narrowed, select, size_in_bytes, tensors_of
from cir_plugins.files import write_atomically
from cir_plugins.types import Features

FORMAT = 2
SUFFIX = ".safetensors"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
VERIFIED_BYTES = 16 * 2**20  # read at a time where a shard is verified


class DamagedShardError(CIRError):
    """A shard that does not hold what was written into it.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"shard {path} is damaged or not of features: {reason}")
        self.path = path


class OtherFormatError(CIRError):
    """A shard that another version wrote.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, number: object) -> None:
        super().__init__(f"shard {path} has format {number}; accepted: {FORMAT}")
        self.path = path


class ShardWriter:
    """Features of images that wait until they are written as one shard.

    Args:
        where: What the shards are of, for messages.
        dtype: Dtype of floating-point tensors in the shards; None for their own.
        accepted: Options that help where a number does not fit the dtype, for messages.
    """

    def __init__(self, where: str, dtype: torch.dtype | None, accepted: str) -> None:
        self.dtype = dtype
        self.size_in_bytes = 0
        self._where = where
        self._accepted = accepted
        self._batches: list[Features] = []
        self._positions: dict[str, tuple[Features, int]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._positions

    def add(self, names: Sequence[str], features: Features, selection: Container[str]) -> Features:
        """The features in the dtype of the shards; from now on those in ``selection`` wait.

        Args:
            names: Names of the n images.
            features: Their features, leading dimension n.
            selection: Names of the images that are written; of several equal ones, the first is.

        Raises:
            CIRError: If a number is too large for the dtype.
        """
        features = narrowed(features, self.dtype, self._where, self._accepted)
        fresh: dict[str, int] = {}
        for position, name in enumerate(names):
            if name in selection and name not in self:
                fresh.setdefault(name, position)
        if fresh:
            index = torch.tensor(list(fresh.values()))
            batch = each(select(features, index), Tensor.cpu)
            self._batches.append(batch)
            self._positions |= {name: (batch, position) for position, name in enumerate(fresh)}
            self.size_in_bytes += size_in_bytes(batch)
        return features

    def row(self, name: str) -> Features:
        """Features (1, ...) of an image that waits."""
        batch, position = self._positions[name]
        return each(batch, lambda tensor: tensor[position : position + 1])

    def write(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write what waits as a shard, after which nothing does; a shard without images too.

        Args:
            path: The file.
            facts: Plain values stored beside the names.

        Raises:
            CIRError: If it cannot be written.
        """
        from safetensors.torch import save

        features = tensors_of(concatenate(self._batches)) if self._batches else ()
        tensors = {f"part{number}": tensor.contiguous() for number, tensor in enumerate(features)}
        text = json.dumps({"format": FORMAT, "names": list(self._positions), **facts})
        metadata = {"shard": text, "checksums": Checksums.of(text, tensors).dump()}
        write_atomically(path, save(tensors, metadata))
        self._batches, self._positions, self.size_in_bytes = [], {}, 0


class Shard:
    """A shard open for reading; its tensors are verified when a first one is read.

    Attributes:
        path: The file.
        facts: What its metadata holds, ``names`` among it.
        verified: Whether its tensors are known to be those that were written.

    Raises:
        DamagedShardError: If its header does not hold what was written.
        OtherFormatError: If another version wrote it.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        self.verified = False
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            metadata = self._file.metadata() or {}
            self.facts: dict[str, Any] = json.loads(metadata["shard"])
            number = self.facts.get("format")
            # Without checksums it is of a version that stored none; a damaged number has them.
            if "checksums" not in metadata and number != FORMAT:
                raise OtherFormatError(path, number)
            self._checksums = Checksums.read(metadata.get("checksums"))
            self._checksums.check_text(metadata["shard"])
            if number != FORMAT:
                raise OtherFormatError(path, number)
            self._checksums.check_names(self._file.keys())
        except (SafetensorError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise DamagedShardError(path, error) from error
        except OSError as error:
            raise CIRError(f"shard {path} cannot be read: {error}") from error
        keys = sorted(self._file.keys(), key=lambda key: int(key.removeprefix("part")))
        self._slices = {key: self._file.get_slice(key) for key in keys}

    @property
    def names(self) -> list[str]:
        """Names of its images, in order."""
        names: list[str] = self.facts["names"]
        return names

    def verify(self) -> None:
        """Compare all its tensors with their checksums, once.

        Raises:
            DamagedShardError: If one differs.
        """
        if self.verified:
            return
        for name, tensor in self._slices.items():
            try:
                checksum = sliced_checksum(tensor[:0].dtype, tensor.get_shape(), _slices(tensor))
                self._checksums.check_tensor(name, checksum)
            except (ValueError, IndexError, TypeError) as error:
                raise DamagedShardError(self.path, error) from error
        self.verified = True

    def row(self, index: int) -> tuple[Tensor, ...]:
        """Each tensor (1, ...) of the features of one image.

        Raises:
            DamagedShardError: If the shard does not hold what was written.
        """
        self.verify()
        return tuple(tensor[index : index + 1] for tensor in self._slices.values())

    def whole(self) -> tuple[Tensor, ...]:
        """Each tensor (n, ...) of the features of all its images.

        Raises:
            DamagedShardError: If the shard does not hold what was written.
        """
        self.verify()
        return tuple(tensor[:] for tensor in self._slices.values())


def _slices(tensor: Any) -> Iterator[Tensor]:
    """A tensor of a file in slices of bounded size along dimension 0."""
    count = tensor.get_shape()[0]
    if not count:
        return
    first = tensor[:1]
    step = max(1, VERIFIED_BYTES // max(1, first.numel() * first.element_size()))
    for start in range(0, count, step):
        yield tensor[start : min(start + step, count)]
