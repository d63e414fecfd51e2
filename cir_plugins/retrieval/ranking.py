"""Ranks of some columns, and the first columns of a ranking, without sorting all scores.

In a ranking the higher score comes first, and of equal scores the lower column.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cir_plugins.retrieval.counting import compare_values, count_true, even_width

# Comparisons that a thread makes at a time: their scores and results stay in its core's cache.
CELLS = 240_000
_STRIPE = 32


def ranks_of(scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks (q, A) int64 of columns in their rows, from 1, and rows (q,) bool with NaN.

    In a row with NaN the ranks mean nothing. Beside the result a CPU holds a byte for each of
    ``CELLS`` comparisons per thread, or for each score of a row if these are more; a GPU holds a
    mask of all scores.

    Args:
        scores: (q, N).
        columns: (q, A) int64 in [0, N), or negative for a rank that is not needed: any comes back.
    """
    if not columns.numel() or not scores.numel():
        return torch.zeros_like(columns), scores.isnan().any(dim=1)
    scores, needed = scores.detach(), columns >= 0
    on_cpu = scores.device.type == "cpu"
    if on_cpu and scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()  # which orders them alike
    values = scores.gather(1, columns.clamp(min=0))
    above, below = (_compared_on_cpu if on_cpu else _compared)(scores, values, needed)
    # Where all others are above or below there is neither a tie nor a NaN.
    unclear = needed & (above + below != scores.shape[1] - 1)
    doubtful = (unclear.any(dim=1) | ~needed.any(dim=1)).nonzero().flatten()
    broken = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if not len(doubtful):
        return above + 1, broken
    step = max(1, CELLS // scores.shape[1]) if on_cpu else len(scores)
    for rows in torch.split(doubtful, step):
        broken[rows] = scores[rows].isnan().any(dim=1)
    index = torch.arange(scores.shape[1], device=scores.device)
    for row, at in (pairs.T for pairs in torch.split(unclear.nonzero(), step)):
        equal = compare_values(scores[row], operator.eq, values[row, at, None])
        above[row, at] += count_true(equal & (index < columns[row, at, None]))
    return above + 1, broken


def _compared(scores: Tensor, values: Tensor, _needed: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores (q, N) of a row are above and below its values (q, A): both (q, A)."""
    above = torch.stack([(scores > value).sum(dim=1) for value in values.T[..., None]], dim=1)
    below = torch.stack([(scores < value).sum(dim=1) for value in values.T[..., None]], dim=1)
    return above, below


def _compared_on_cpu(scores: Tensor, values: Tensor, needed: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_compared``, zeros where no rank is needed.

    NumPy compares, eight times as fast as torch, in a pass for each value: sorting a row once costs
    as much as 14 of them at 15,000 columns, as 40 at 123,000, and looking every score up among the
    sorted values as 70.
    """
    width, bounds_per_row = scores.shape[1], values.shape[1]
    step = max(1, CELLS // (width * bounds_per_row))
    together = max(1, CELLS // (width * step))  # values compared in one go
    counts = np.zeros((2, bounds_per_row, len(scores)), dtype=np.int64)
    bounds, columns = values.T.contiguous().numpy(), needed.T.numpy()

    def count(starts: Sequence[int]) -> None:
        results = torch.zeros(2, together, step, even_width(width), dtype=torch.bool)
        masks = results.numpy()[..., :width]
        for first in starts:
            rows = slice(first, first + step)
            block, present = scores[rows].numpy(), np.flatnonzero(columns[:, rows].any(axis=1))
            for at in range(0, len(present), together):
                some = present[at : at + together]
                bound = bounds[some, rows, None]
                np.greater(block, bound, out=masks[0, : len(some), : len(block)])
                np.less(block, bound, out=masks[1, : len(some), : len(block)])
                number = count_true(results).numpy()
                counts[:, some, rows] = number[:, : len(some), : len(block)]

    starts = range(0, len(scores), step)
    threads = min(torch.get_num_threads(), len(starts))
    if threads == 1:
        count(starts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(count, [starts[one::threads] for one in range(threads)]))
    above, below = torch.from_numpy(counts).transpose(1, 2)
    return above, below


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores and columns, each (q, min(k, N)), of the first k of each row's ranking, in order.

    What a full stable sort begins with, bit for bit (NaN first), for a fraction of its time.

    Args:
        scores: (q, N).
        k: At least 0.
    """
    if not 0 < k < scores.shape[1]:
        return _first_of_sort(scores, k)
    if k * _STRIPE * 4 <= scores.shape[1]:
        return _top_k_of_many(scores, k)
    return _top_k(scores, k)


def _top_k_of_many(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``top_k`` of long rows: of every ``_STRIPE`` scores the highest first, in one quick pass.

    The first k of the ranking lie in the k stripes with the highest maxima, unless the next stripe
    has an equal one.
    """
    count, width = scores.shape
    stripes = width // _STRIPE
    # Scores of a stripe are `stripes` columns apart: so a maximum is one of whole vectors.
    maxima = scores[:, : stripes * _STRIPE].reshape(count, _STRIPE, stripes).amax(dim=1)
    best, found = maxima.topk(k + 1, dim=1)
    within = torch.arange(_STRIPE, device=scores.device) * stripes
    columns = (found[:, :k, None] + within).flatten(1)
    rest = torch.arange(stripes * _STRIPE, width, device=scores.device).expand(count, -1)
    columns = torch.cat([columns, rest], dim=1).sort(dim=1).values
    values, places = _top_k(scores.gather(1, columns), k)
    columns = columns.gather(1, places)
    rows = ((best[:, k] == best[:, k - 1]) | best[:, 0].isnan()).nonzero().flatten()
    if len(rows):
        values[rows], columns[rows] = _top_k(scores[rows], k)
    return values, columns


def _top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, columns = scores.topk(k + 1, dim=1)
    # Where the next score equals the last, the selection took any of the equal ones.
    torn = values[:, k] == values[:, k - 1]
    broken = values[:, 0].isnan()
    values, columns = _in_order(scores, columns[:, :k].sort(dim=1).values)
    rows = (torn & ~broken).nonzero().flatten()
    if len(rows):
        tied = scores[rows]
        values[rows], columns[rows] = _in_order(tied, _lowest_columns(tied, k, values[rows, -1:]))
    rows = broken.nonzero().flatten()
    if len(rows):
        values[rows], columns[rows] = _first_of_sort(scores[rows], k)
    return values, columns


def _first_of_sort(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, columns = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], columns[:, :k]


def _in_order(scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and columns (q, k) as they rank, from columns in ascending order."""
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _lowest_columns(scores: Tensor, k: int, last: Tensor) -> Tensor:
    """The k columns (q, k) that rank first, ascending, where the k-th score ``last`` (q, 1) is."""
    above, level = scores > last, scores == last
    room = k - above.sum(dim=1, keepdim=True)
    mask = above | (level & (level.cumsum(dim=1, dtype=torch.int32) <= room))
    return mask.nonzero()[:, 1].view(-1, k)
