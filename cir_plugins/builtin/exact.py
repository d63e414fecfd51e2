"""The exact search backend: every picture is scored."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cir_plugins.types import GalleryVectors


class Exact:
    """Exact scoring of all pictures from the memory-mapped vectors of the index.

    The ranking is that of ``cir eval``, to the bit. It needs no library and no store of its own.
    """

    stores = False

    def open(self, folder: Path, dimension: int) -> None:
        """Nothing: there is no store."""

    def keys(self) -> Tensor:
        """No keys (0,)."""
        import torch

        return torch.empty(0, dtype=torch.int64)

    def add(self, keys: Tensor, vectors: Tensor) -> None:
        """Nothing: the gallery holds the vectors."""

    def remove(self, keys: Tensor) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def search(
        self, gallery: GalleryVectors, queries: Tensor, k: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scores and rows, each (q, k), of the whole gallery's ranking."""
        return gallery.best(queries, k, allowed)
