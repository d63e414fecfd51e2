"""Features on disk: shards of images, each written whole or not at all, read memory-mapped.

A shard is a safetensors file with one tensor per part of the features (``part0``, ...), images
along dimension 0. Its metadata names the images. A process never changes a shard that is there,
so any number of them may read and write one folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

FORMAT = 1
SUFFIX = ".safetensors"
STALE_SECONDS = 3600  # a temporary file this old belongs to a process that was killed


def remove_stale(folder: Path) -> None:
    """Remove what killed writers left in a folder."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # another process may have removed or renamed it
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()


def write_shard(
    path: Path, parts: Sequence[Tensor], names: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write a shard.

    Args:
        path: The file.
        parts: Tensors, leading dimension n.
        names: Names of the n images.
        facts: Plain values kept beside them.

    Raises:
        CIRError: If it cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"part{i}": part.detach().cpu().contiguous() for i, part in enumerate(parts)}
    plain = {"format": FORMAT, "names": list(names), **facts}
    write_atomically(path, save(tensors, {"shard": json.dumps(plain)}), shared=True)


class Shard:
    """A shard open for reading; rows are read from the disk when they are asked for.

    Attributes:
        path: The file.
        facts: What its metadata holds, ``names`` among it.

    Raises:
        CIRError: If it is damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            self.facts: dict[str, Any] = json.loads((self._file.metadata() or {})["shard"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CIRError(f"shard {path} is damaged or not of features: {error}") from error
        if self.facts.get("format") != FORMAT:
            raise CIRError(
                f"shard {path} has format {self.facts.get('format')}; accepted: {FORMAT}"
            )
        keys = sorted(self._file.keys(), key=lambda key: int(key.removeprefix("part")))
        self._slices = [self._file.get_slice(key) for key in keys]

    @property
    def names(self) -> list[str]:
        """Names of its images, in order."""
        names: list[str] = self.facts["names"]
        return names

    def row(self, place: int) -> tuple[Tensor, ...]:
        """Each part (1, ...) of one image."""
        return tuple(part[place : place + 1] for part in self._slices)

    def whole(self) -> tuple[Tensor, ...]:
        """Each part (n, ...) of all its images."""
        return tuple(part[:] for part in self._slices)
