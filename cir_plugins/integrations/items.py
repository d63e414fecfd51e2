"""Equal items of a corpus, and the positives of each row among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor


def key(item: Any) -> Hashable:
    """What makes two texts, PIL images or arrays, or two dicts or lists of them, the same."""
    if isinstance(item, dict):
        return tuple((name, key(part)) for name, part in sorted(item.items()))
    if isinstance(item, list | tuple):
        return tuple(key(part) for part in item)
    if not hasattr(item, "tobytes"):
        return cast(Hashable, item)
    if hasattr(item, "mode"):
        return (item.mode, item.size, _digest(item))
    return (str(item.dtype), item.shape, _digest(item))


def _digest(item: Any) -> bytes:
    """A hash of an item's bytes, so that no copy of them is kept."""
    return hashlib.blake2b(item.tobytes()).digest()


def distinct(items: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The distinct items in order of first sight, and the place of each item among them."""
    places: dict[Hashable, int] = {}
    first: list[Any] = []
    columns = []
    for item in items:
        place = places.setdefault(key(item), len(first))
        if place == len(first):
            first.append(item)
        columns.append(place)
    return first, columns


def listed(labels: Any) -> list[Hashable]:
    """Labels as plain values: those of a tensor or an array are not equal by themselves."""
    return list(labels.tolist() if hasattr(labels, "tolist") else labels)


class GroupedPositives:
    """The positives of rows that some grouping puts together, a few rows of a mask at a time.

    Args:
        groupings: Names (Q,) of each row's group, for each grouping.
        target: (Q,) int64 column of each row's own positive.
        columns: Number of columns (N).
    """

    def __init__(
        self, groupings: Sequence[Sequence[Hashable]], target: Tensor, columns: int
    ) -> None:
        self._columns = columns
        self._groups = []  # for each grouping: every row's group, and all groups' columns
        for names in groupings:
            places: dict[Hashable, int] = {}
            group = torch.tensor([places.setdefault(name, len(places)) for name in names]).long()
            # A column once in each group.
            pairs = torch.tensor(sorted({*(group * columns + target).tolist()})).long()
            size = torch.bincount(pairs // columns, minlength=len(places))
            self._groups.append((group, size, size.cumsum(0) - size, pairs % columns))

    def __call__(self, rows: slice) -> Tensor:
        """Mask (q, N) bool of the rows' positives."""
        right: Tensor | None = None
        for group, size, start, column in self._groups:
            groups = group[rows]
            right = (
                torch.zeros(len(groups), self._columns, dtype=torch.bool)
                if right is None
                else right
            )
            row = torch.repeat_interleave(torch.arange(len(groups)), size[groups])
            place = (
                torch.arange(len(row))
                - (size[groups].cumsum(0) - size[groups] - start[groups])[row]
            )
            right[row, column[place]] = True
        assert right is not None, "there is no grouping"
        return right


def encoded(encode: Callable[[list[Any]], Tensor], items: Sequence[Any]) -> Tensor:
    """Embeddings (len(items), D), one call for each kind: models take no texts among images."""
    kinds: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        kind = tuple(sorted(item)) if isinstance(item, dict) else isinstance(item, str)
        kinds.setdefault(kind, []).append(place)
    parts = [encode([items[place] for place in places]) for places in kinds.values()]
    order = torch.tensor([place for places in kinds.values() for place in places])
    return torch.cat(parts)[order.argsort().to(parts[0].device)]
