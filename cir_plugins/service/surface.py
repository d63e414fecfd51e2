"""What the service needs of an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL.Image import Image


@dataclass(frozen=True)
class SearchQuery:
    """A query of the index: pictures, indexed pictures by id, a text, or pictures with a text."""

    image: tuple[Image, ...] | None = None
    text: str = ""
    reference: tuple[str, ...] = ()
    k: int = 10
    filter: str = ""
    weight: float | None = None


class Hit(Protocol):
    """An indexed picture that was found."""

    def to_dict(self) -> dict[str, Any]:
        """Id, score, path and metadata."""


class Index(Protocol):
    """An open index."""

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the pictures."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Fields of the metadata."""

    def search_many(self, queries: Sequence[SearchQuery]) -> Sequence[Sequence[Hit]]:
        """The hits of each query."""

    def picture(self, name: str) -> Path:
        """The file of a picture."""

    def summary(self) -> dict[str, Any]:
        """What the index is made of."""
