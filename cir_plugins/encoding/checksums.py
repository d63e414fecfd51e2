"""Checksums of tensors and text, stored beside them and compared when they are read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from cir_plugins.encoding.device import resolve_workers
from cir_plugins.encoding.fingerprint import new_digest, tensor_bytes
from cir_plugins.files import json_bytes

V = TypeVar("V")
W = TypeVar("W")
TEXT = "$text"  # no tensor of a shard or checkpoint has this name


class Checksums:
    """Checksum of a text and of each tensor that belongs to it, by name.

    Args:
        values: Name -> checksum; that of the text is under ``TEXT``.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    @classmethod
    def of(cls, text: str, tensors: Mapping[str, Tensor]) -> Checksums:
        """The checksums of a text and tensors."""
        return cls({TEXT: text_checksum(text), **tensor_checksums(tensors)})

    @classmethod
    def read(cls, text: str | None) -> Checksums:
        """The checksums as ``dump`` wrote them.

        Raises:
            ValueError: If they are missing or damaged.
        """
        values = None if text is None else json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it has no checksums")
        return cls(values)

    def dump(self) -> str:
        """All of them as JSON."""
        return json.dumps(self.values)

    def check_text(self, text: str) -> None:
        """Check the text.

        Raises:
            ValueError: If it is not the one that was written.
        """
        if self.values.get(TEXT) != text_checksum(text):
            raise ValueError("the checksum of its metadata differs")

    def check_names(self, names: Iterable[str]) -> None:
        """Check the names of the tensors.

        Raises:
            ValueError: If they are not those that were written.
        """
        if {*names, TEXT} != self.values.keys():
            raise ValueError("it has other tensors than were written")

    def check_tensor(self, name: str, checksum: str) -> None:
        """Check the checksum of a tensor as it was read.

        Raises:
            ValueError: If it is not that of the tensor that was written.
        """
        if self.values.get(name) != checksum:
            raise ValueError(f"the checksum of tensor '{name}' differs")


def text_checksum(text: str) -> str:
    """Hash of a text."""
    digest = new_digest()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def json_checksum(content: object) -> str:
    """Checksum of plain values, as ``write_json`` would write them."""
    return text_checksum(json_bytes(content, compact=True).decode())


def tensor_checksums(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Hash of each tensor's dtype, shape and bytes, by name."""

    def checksum(tensor: Tensor) -> str:
        return sliced_checksum(tensor.dtype, tensor.shape, [tensor])

    return dict(zip(tensors, in_threads(checksum, tensors.values()), strict=True))


def in_threads(function: Callable[[V], W], items: Iterable[V]) -> list[W]:
    """Results of a function for each item, computed in a few threads: hashing needs no lock."""
    with ThreadPoolExecutor(max(1, resolve_workers(-1))) as threads:
        return list(threads.map(function, items))


def sliced_checksum(dtype: torch.dtype, shape: Sequence[int], slices: Iterable[Tensor]) -> str:
    """Hash of a tensor's dtype, shape and bytes, read slice by slice along dimension 0."""
    digest = new_digest()
    digest.update(f"{dtype} {tuple(shape)}\n".encode())
    for rows in slices:
        digest.update(tensor_bytes(rows))
    return digest.hexdigest()
