"""Negatives drawn from masks, the same whatever blocks the rows come in. Imports torch alone."""

from __future__ import annotations

import torch
from torch import Tensor

from cir_plugins.seeds import mix_seed

# Proposals for each column to draw: enough where a tenth of the columns or more is allowed.
_PER_DRAW, _FEWEST, _MOST = 8, 32, 512


def draw(
    mask: Tensor,
    count: int,
    *,
    seed: int,
    epoch: int = 0,
    rows: Tensor | None = None,
    first_row: int = 0,
    repeat: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Columns (q, count) int64 drawn from each row's True columns, -1 where a row has no more.

    Uniform, or in proportion to weights, and without replacement. Depends on the seed, the epoch,
    the row's number, mask and weights alone: blocks, devices and the order of calls change nothing.

    Columns are proposed by a hash and the first distinct ones in the mask are taken. A row whose
    mask is too sparse for that is drawn from a list of its columns.

    Args:
        mask: (q, N) bool.
        count: Columns per row, at least 1.
        seed: Seed of the run.
        epoch: Another epoch draws anew.
        rows: (q,) int64 number of each row; those from ``first_row`` on if left out.
        first_row: Number of the first row, where the rows are a block of more.
        repeat: Whether a row that is used up starts again from its first column, which leaves -1
            only to rows without any.

        weights: (q, N) float, at least 0 and above 0 where the mask is; None for equal weights.

    Raises:
        ValueError: If ``count`` is less than 1 or the mask is not bool.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if mask.dtype != torch.bool or mask.dim() != 2:
        raise ValueError(f"expected a mask (q, N) of bool, found {_shown(mask)}")
    if not mask.numel():
        return torch.full((len(mask), count), -1, device=mask.device)
    if rows is None:
        rows = torch.arange(first_row, first_row + len(mask), device=mask.device)
    key = mix_seed(seed, epoch) & 0xFFFFFFFF
    if weights is not None:
        return _draw_weighted(mask, weights, rows, count, key, repeat)
    tries = min(_MOST, max(_FEWEST, _PER_DRAW * count))
    proposal = torch.arange(tries, device=mask.device)
    hashes = scramble(rows[:, None] * 0x632BE5AB + proposal[None, :] * 0x85157AF5 + key)
    proposed = hashes % mask.shape[1]
    valid = mask.gather(1, proposed) & ~_repeated(proposed)
    number = valid.cumsum(dim=1)
    slot = torch.where(valid & (number <= count), number - 1, count)
    drawn = torch.full((len(mask), count + 1), -1, device=mask.device)
    drawn = drawn.scatter(1, slot, proposed)[:, :count]
    short = (number[:, -1] < count).nonzero().flatten()
    if len(short):
        drawn[short] = _draw_from_lists(mask[short], rows[short], count, key, repeat)
    return drawn


def _repeated(proposed: Tensor) -> Tensor:
    """Proposals (q, J) that the row already had further left."""
    ordered, order = proposed.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(again).scatter(1, order, again)


def _draw_from_lists(mask: Tensor, rows: Tensor, count: int, key: int, repeat: bool) -> Tensor:
    """As ``draw``, by a hash of every True column."""
    row, column = mask.nonzero(as_tuple=True)
    size = torch.bincount(row, minlength=len(mask))
    width = max(1, int(size.max()))
    position = torch.arange(len(row), device=mask.device) - (size.cumsum(0) - size)[row]
    hashes = torch.full((len(mask), width), -1, device=mask.device)
    hashes[row, position] = scramble(rows[row] * 0x632BE5AB + column * 0x85157AF5 + key + 1)
    columns = torch.zeros_like(hashes)
    columns[row, position] = column
    order = hashes.topk(min(count, width), dim=1).indices
    turn = torch.arange(count, device=mask.device)
    from_start = turn % size[:, None].clamp(min=1)
    drawn = columns.gather(1, order.gather(1, from_start.clamp(max=order.shape[1] - 1)))
    exhausted = (size == 0)[:, None] if repeat else turn >= size[:, None]
    return drawn.masked_fill(exhausted, -1)


def _draw_weighted(
    mask: Tensor, weights: Tensor, rows: Tensor, count: int, key: int, repeat: bool
) -> Tensor:
    """As ``draw``, each next column with a chance in proportion to its weight among those left.

    Source: Efraimidis, Spirakis, Weighted random sampling with a reservoir, Information Processing
    Letters 97, 2006: the largest of u^(1/w), u uniform in (0, 1).
    """
    column = torch.arange(mask.shape[1], device=mask.device)
    hashes = scramble(rows[:, None] * 0x632BE5AB + column[None, :] * 0x85157AF5 + key + 1)
    uniform = (hashes.double() + 0.5) / 2**32
    # Weights beside the row's largest: the smallest ones would overflow.
    share = weights.double() / weights.double().amax(dim=1, keepdim=True).clamp(min=1e-300)
    order = uniform.log() / share.clamp(min=1e-300)
    order = order.masked_fill(~mask, -torch.inf)
    size = mask.sum(dim=1, keepdim=True)
    columns = order.topk(min(count, mask.shape[1]), dim=1).indices
    turn = torch.arange(count, device=mask.device)
    drawn = columns.gather(1, (turn % size.clamp(min=1)).clamp(max=columns.shape[1] - 1))
    return drawn.masked_fill((size == 0) if repeat else turn >= size, -1)


def scramble(values: Tensor) -> Tensor:
    """Well-mixed int64 in [0, 2**32), equal for equal input (a 32-bit integer finaliser)."""
    values = values & 0xFFFFFFFF
    values = (values ^ (values >> 16)) * 0x7FEB352D & 0xFFFFFFFF
    values = (values ^ (values >> 15)) * 0x846CA68B & 0xFFFFFFFF
    return values ^ (values >> 16)


def _shown(mask: Tensor) -> str:
    return f"{tuple(mask.shape)} of {mask.dtype}"
