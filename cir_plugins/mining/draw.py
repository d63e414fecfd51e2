"""Negatives drawn from masks, the same whatever blocks the rows come in."""

from __future__ import annotations

import torch
from torch import Tensor

# Proposals per negative wanted: enough for pools of a tenth of the columns and more.
_PER_DRAW, _FEWEST, _MOST = 8, 32, 512


def draw(mask: Tensor, rows: Tensor, count: int, seed: int) -> Tensor:
    """Columns (q, count) int64 drawn from each row's True columns, -1 for a row without any.

    Uniform, without replacement until the row is used up, then again from its start. Depends on
    the seed, the row's number and the row's mask, not on the other rows.

    Columns are proposed at random and the first distinct ones in the mask are taken; a row whose
    pool is too small for that is drawn from its listed columns.

    Args:
        mask: (q, N) bool.
        rows: (q,) number of each row.
        count: How many to draw, at least 1.
        seed: Depends on the run's seed and the epoch.
    """
    tries = min(_MOST, max(_FEWEST, _PER_DRAW * count))
    places = torch.arange(tries, device=mask.device)
    keys = scramble(rows[:, None] * 0x632BE5AB + places[None, :] * 0x85157AF5 + seed)
    proposed = keys % mask.shape[1]
    good = mask.gather(1, proposed) & ~_repeated(proposed)
    number = good.cumsum(dim=1)
    wanted = torch.where(good & (number <= count), number - 1, count)
    drawn = torch.full((len(mask), count + 1), -1, device=mask.device)
    drawn = drawn.scatter(1, wanted, proposed)[:, :count]
    short = (number[:, -1] < count).nonzero().flatten()
    if len(short):
        drawn[short] = _draw_listed(mask[short], rows[short], count, seed)
    return drawn


def _repeated(proposed: Tensor) -> Tensor:
    """Proposals (q, J) that the row already had further left."""
    ordered, order = proposed.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(again).scatter(1, order, again)


def _draw_listed(mask: Tensor, rows: Tensor, count: int, seed: int) -> Tensor:
    """As ``draw``, by a random key for every True column."""
    where, column = mask.nonzero(as_tuple=True)
    size = torch.bincount(where, minlength=len(mask))
    width = max(1, int(size.max()))
    place = torch.arange(len(where), device=mask.device) - (size.cumsum(0) - size)[where]
    keys = torch.full((len(mask), width), -1, device=mask.device)
    keys[where, place] = scramble(rows[where] * 0x632BE5AB + column * 0x85157AF5 + seed + 1)
    listed = torch.zeros_like(keys)
    listed[where, place] = column
    order = keys.topk(min(count, width), dim=1).indices
    turn = torch.arange(count, device=mask.device) % size[:, None].clamp(min=1)
    drawn = listed.gather(1, order.gather(1, turn.clamp(max=order.shape[1] - 1)))
    return drawn.masked_fill((size == 0)[:, None], -1)


def scramble(keys: Tensor) -> Tensor:
    """Well-mixed non-negative int64 keys, equal for equal input (a 32-bit integer finaliser)."""
    keys = keys & 0xFFFFFFFF
    keys = (keys ^ (keys >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    keys = (keys ^ (keys >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return keys ^ (keys >> 16)
