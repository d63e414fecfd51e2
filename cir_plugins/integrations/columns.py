"""Texts, images and dicts of both as columns of a ``datasets.Dataset`` that gives them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, Image, Value


def stored(columns: Mapping[str, Sequence[Any]]) -> Dataset:
    """A dataset whose rows hold the same items, the images inside of dicts included.

    Left to itself ``Dataset.from_dict`` gives such an image back as the bytes of a file.

    Raises:
        ValueError: If a column holds items of several kinds, which Arrow cannot keep.
    """
    features = Features({name: _feature(name, items) for name, items in columns.items()})
    return Dataset.from_dict(dict(columns), features=features)


def _feature(name: str, items: Sequence[Any]) -> Any:
    """How the items of one column are stored."""
    kinds = {_kind(item) for item in items}
    if len(kinds) > 1:
        raise ValueError(
            f"column {name!r} holds items of several kinds ({', '.join(sorted(kinds))}), and a "
            "stored column has one: train on `MinedTuples.dataset`, whose rows are the items"
        )
    if kinds == {"text"}:
        return Value("string")
    if kinds == {"image"}:
        return Image()
    if items and isinstance(items[0], dict):
        return {field: _feature(f"{name}.{field}", [i[field] for i in items]) for field in items[0]}
    return Dataset.from_dict({name: list(items)}).features[name]


def _kind(item: Any) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, dict):
        return f"dict of {' and '.join(sorted(item))}"
    return "image" if hasattr(item, "getpixel") else type(item).__name__
