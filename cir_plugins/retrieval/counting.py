"""Comparisons of scores and counts of True, fast on a CPU. Imports torch alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Words of eight bytes that are added up before a byte of the sum could overflow.
_RUN = 255


def count_true(mask: Tensor) -> Tensor:
    """Number (...) int64 of True along the last dimension of a mask (..., N)."""
    width = mask.shape[-1]
    if width < 8 or mask.device.type != "cpu":
        return mask.sum(dim=-1)
    runs = -(-width // (8 * _RUN))
    whole = width - width % (8 * runs)
    cells = (mask[..., :whole] if whole < width else mask).reshape(-1).contiguous()
    cells = cells.clone() if cells.storage_offset() % 8 else cells
    # Eight at a time as bytes of an int64.
    packed = cells.view(torch.int64).view(*mask.shape[:-1], runs, whole // (8 * runs))
    number = packed.sum(dim=-1).view(torch.uint8).sum(dim=-1)
    return number if width == whole else number + mask[..., whole:].sum(dim=-1)


def even_width(width: int) -> int:
    """The least width, no smaller, at which ``count_true`` copies no mask and has no rest."""
    runs = -(-width // (8 * _RUN))
    return -(-width // (8 * runs)) * 8 * runs


def compare_values(values: Tensor, relation: Callable[[Any, Any], Any], bound: Tensor) -> Tensor:
    """Mask ``relation(values, bound)``, such as ``operator.gt``, by NumPy where that is there.

    NumPy compares four times as fast: torch does without vector instructions.
    """
    if not in_numpy(values):
        mask: Tensor = relation(values, bound)
        return mask
    return torch.from_numpy(relation(values.numpy(), bound.numpy()))


def in_numpy(values: Tensor) -> bool:
    """Whether torch can hand the values to NumPy, which it works without."""
    return values.device.type == "cpu" and values.dtype != torch.bfloat16 and _has_numpy()


@cache
def _has_numpy() -> bool:
    try:
        torch.empty(0).numpy()
    except RuntimeError:
        return False
    return True
