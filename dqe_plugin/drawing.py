"""Draws from masks that depend on the seed, the row and its mask alone.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 0xFFFFFFFF
# Proposals per column wanted: enough for pools of a tenth of the columns and more.
_PER_DRAW, _FEWEST, _MOST = 8, 32, 512


def draw(allowed: Tensor, count: int, *, seed: int, first_row: int = 0) -> Tensor:
    """Columns (Q, count) int64 of each row's allowed ones, -1 behind the last of a short row.

    Uniform and without replacement. Columns are proposed by a hash of (seed, row, place) and the
    first distinct allowed ones are taken; a row that gets too few of them takes those of the
    greatest hash of (seed, row, column). Blocks, devices and the order of calls change nothing.

    Args:
        allowed: (Q, N) bool.
        count: How many to draw, at least 1.
        seed: Pass another one for each epoch to draw anew.
        first_row: Number of the first row, where the rows are a block of more.

    Raises:
        ValueError: If ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rows, columns = allowed.shape
    device = allowed.device
    drawn = torch.full((rows, count + 1), -1, device=device)
    if not allowed.numel():
        return drawn[:, :count]
    row = torch.arange(first_row, first_row + rows, device=device)
    key = _mixed(row ^ _mixed(torch.tensor(seed & _HALF, device=device)))
    place = torch.arange(min(_MOST, max(_FEWEST, _PER_DRAW * count)), device=device)
    proposed = _mixed(key[:, None] ^ place) % columns
    good = allowed.gather(1, proposed) & ~_repeated(proposed)
    number = good.cumsum(dim=1)
    wanted = torch.where(good & (number <= count), number - 1, count)
    drawn = drawn.scatter(1, wanted, proposed)[:, :count]
    short = (number[:, -1] < count).nonzero().flatten()
    if len(short):
        drawn[short] = _listed(allowed[short], count, key[short])
    return drawn


def _repeated(proposed: Tensor) -> Tensor:
    """Proposals (Q, J) that the row already had further left."""
    ordered, order = proposed.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(again).scatter(1, order, again)


def _listed(allowed: Tensor, count: int, key: Tensor) -> Tensor:
    """As ``draw``, by a number for each allowed column and the row's key (Q,)."""
    row, column = allowed.nonzero(as_tuple=True)
    size = torch.bincount(row, minlength=len(allowed))
    place = torch.arange(len(row), device=row.device) - (size.cumsum(0) - size)[row]
    # The column makes equal ones differ, so that every device takes the same.
    number = _mixed(~key[row] ^ column) * allowed.shape[1] + column
    table = number.new_full((len(allowed), max(count, int(size.max()))), -1)
    table[row, place] = number
    best = table.topk(count, dim=1).values
    return torch.where(best < 0, -1, best % allowed.shape[1])


def _mixed(values: Tensor) -> Tensor:
    """A scrambled 32-bit number, 0 to 2**32 - 1, for each; the same on every device."""
    mixed = values & _HALF
    for shift in (16, 15):
        mixed = ((mixed ^ (mixed >> shift)) * 0x45D9F3B) & _HALF
    return mixed ^ (mixed >> 16)
