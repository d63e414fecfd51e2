"""Which items of a corpus are one and the same, and which answer which row."""

from __future__ import annotations

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
        return (item.mode, item.size, item.tobytes())
    return (str(item.dtype), item.shape, item.tobytes())


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


def answers(groupings: Sequence[Sequence[Hashable]], target: Tensor, columns: int) -> Tensor:
    """Mask (Q, columns) bool: the targets (Q,) of all rows that some grouping puts together."""
    right = torch.zeros(len(target), columns, dtype=torch.bool)
    for names in groupings:
        shared: dict[Hashable, list[int]] = {}
        for row, name in enumerate(names):
            shared.setdefault(name, []).append(row)
        for rows in shared.values():
            right[torch.tensor(rows)[:, None], target[rows][None, :]] = True
    return right


def encoded(encode: Callable[[list[Any]], Tensor], items: Sequence[Any]) -> Tensor:
    """Embeddings (len(items), D), one call for each kind: models refuse texts among images."""
    kinds: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        kind = tuple(sorted(item)) if isinstance(item, dict) else isinstance(item, str)
        kinds.setdefault(kind, []).append(place)
    parts = [encode([items[place] for place in places]) for places in kinds.values()]
    order = torch.tensor([place for places in kinds.values() for place in places])
    return torch.cat(parts)[order.argsort().to(parts[0].device)]
