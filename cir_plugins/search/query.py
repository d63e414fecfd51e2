"""What is asked of an index, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture: TypeAlias = "str | PathLike[str] | Image"

Value: TypeAlias = "str | float | int | bool | None"
"""A value of the metadata; None where a picture has none."""

RESERVED = ("id", "score", "path")  # keys of every hit, which no field of the metadata may have


@dataclass(frozen=True)
class Hit:
    """A picture of the index that was found.

    Attributes:
        id: Its id: the path below the folder that was indexed, or the key it was given.
        score: Higher is closer.
        path: Its file.
        metadata: Its row of the metadata; every field, None where it has no value.
    """

    id: str
    score: float
    path: str
    metadata: Mapping[str, Value] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Value]:
        """Id, score, path and the metadata, as JSON has them."""
        return {"id": self.id, "score": self.score, "path": self.path, **self.metadata}


@dataclass(frozen=True)
class SearchQuery:
    """One query: a picture, a text, or both.

    Attributes:
        image: A path or PIL picture, or several; None for none.
        text: What to change in the pictures or, without one, what to look for.
        reference: Id, or ids, of indexed pictures that count as ``image`` does.
        k: Hits, at least 1.
        filter: Condition on the metadata, such as ``price < 50 and brand == 'x'``; "" for none.
        weight: Share of the text between 0, the picture alone, and 1, the text alone; None for the
            method's own. Only for methods that are a weighted sum.
        exclude: Id, or ids, that are no hits, such as the reference's.
    """

    image: Picture | Sequence[Picture] | None = None
    text: str = ""
    reference: str | Sequence[str] = ()
    k: int = 10
    filter: str = ""
    weight: float | None = None
    exclude: str | Sequence[str] = ()


def value_text(value: Value) -> str:
    """A value as filters write it, such as ``true`` and ``120``; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@dataclass(frozen=True)
class Field:
    """A field of the metadata.

    Attributes:
        name: Its name.
        kind: ``text``, ``number`` or ``flag`` (true or false).
        values: Its distinct values in order, where there are at most 100; () otherwise.
        low: Smallest number; None where it is no number.
        high: Largest number.
    """

    name: str
    kind: Literal["text", "number", "flag"]
    values: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
