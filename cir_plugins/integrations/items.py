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
        return tuple((name, key(value)) for name, value in sorted(item.items()))
    if isinstance(item, list | tuple):
        return tuple(key(value) for value in item)
    if not hasattr(item, "tobytes"):
        return cast(Hashable, item)
    if hasattr(item, "mode"):
        return (item.mode, item.size, _digest(item))
    return (str(item.dtype), item.shape, _digest(item))


def _digest(item: Any) -> bytes:
    """A hash of an item's bytes, which stands for them without a copy."""
    return hashlib.blake2b(item.tobytes()).digest()


def distinct(items: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The distinct items in order of first sight, and each item's position among them."""
    positions: dict[Hashable, int] = {}
    first: list[Any] = []
    columns = []
    for item in items:
        position = positions.setdefault(key(item), len(first))
        if position == len(first):
            first.append(item)
        columns.append(position)
    return first, columns


def plain_labels(labels: Any) -> list[Hashable]:
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
            numbers: dict[Hashable, int] = {}
            group = torch.tensor([numbers.setdefault(name, len(numbers)) for name in names]).long()
            # A column once in each group.
            pairs = torch.tensor(sorted({*(group * columns + target).tolist()})).long()
            size = torch.bincount(pairs // columns, minlength=len(numbers))
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
            position = (
                torch.arange(len(row))
                - (size[groups].cumsum(0) - size[groups] - start[groups])[row]
            )
            right[row, column[position]] = True
        assert right is not None, "there is no grouping"
        return right


def encoded(encode: Callable[[list[Any]], Tensor], items: Sequence[Any]) -> Tensor:
    """Embeddings (len(items), D), one call for each kind: models take no texts among images."""
    kinds: dict[Hashable, list[int]] = {}
    for position, item in enumerate(items):
        kind = tuple(sorted(item)) if isinstance(item, dict) else isinstance(item, str)
        kinds.setdefault(kind, []).append(position)
    batches = [encode([items[at] for at in positions]) for positions in kinds.values()]
    order = torch.tensor([at for positions in kinds.values() for at in positions])
    return torch.cat(batches)[order.argsort().to(batches[0].device)]
