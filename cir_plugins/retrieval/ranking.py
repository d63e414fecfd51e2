"""Order among scores without sorting them: places of some columns, and the first of a ranking.

In a ranking the higher score comes first, and of equal scores the lower column.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Comparisons that a thread makes at a time: their scores and results stay in its core's cache.
CELLS = 240_000


def ranks_of(scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Places (q, A) int64 of columns in their rows' rankings, from 1, and rows (q,) bool with NaN.

    In a row with NaN the places mean nothing. Beside the result a CPU holds two bytes for each of
    ``CELLS`` comparisons per thread, or for each score of a row if these are more; a GPU holds two
    masks of all scores.

    Args:
        scores: (q, N).
        columns: (q, A) int64 in [0, N), or negative for a place that nobody needs: any comes back.
    """
    if not columns.numel() or not scores.numel():
        return torch.zeros_like(columns), scores.isnan().any(dim=1)
    scores, columns = scores.detach(), columns.T.contiguous()
    own = scores.gather(1, columns.T.clamp(min=0)).T.contiguous()
    on_cpu = scores.device.type == "cpu"
    step = max(1, CELLS // scores.shape[1]) if on_cpu else len(scores)
    compared, in_front = (_compared_on_cpu, _in_front_on_cpu) if on_cpu else (_compared, _in_front)
    before, below = compared(scores, own, columns)
    asked = columns >= 0
    # Where all others are above or below there is neither a tie nor a NaN.
    unclear = asked & (before + below != scores.shape[1] - 1)
    doubtful = unclear.any(dim=0) | ~asked.any(dim=0)
    broken = torch.zeros_like(doubtful)
    if bool(doubtful.any()):
        for rows in torch.split(doubtful.nonzero().flatten(), step):
            broken[rows] = scores[rows].isnan().any(dim=1)
        for answer, row in (pairs.T for pairs in torch.split(unclear.nonzero(), step)):
            pair = own[answer, row, None], columns[answer, row, None]
            before[answer, row] += in_front(scores[row], *pair)
    return before.T + 1, broken


def _compared(scores: Tensor, own: Tensor, _columns: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores (q, N) of a row are above and below its own ones (A, q): both (A, q)."""
    above = torch.stack([(scores > score).sum(dim=1) for score in own[..., None]])
    below = torch.stack([(scores < score).sum(dim=1) for score in own[..., None]])
    return above, below


def _compared_on_cpu(scores: Tensor, own: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_compared``, zeros where no column is asked for.

    A pass for each answer: sorting a row once costs as much as 14 of them at 15,000 columns, as 40
    at 123,000, and looking every score up among the sorted positives as 70.
    """
    counts = np.zeros((2, *columns.shape), dtype=np.int64)
    width = scores.shape[1]
    step = max(1, CELLS // (width * len(columns)))
    together = max(1, CELLS // (width * step))  # positives compared in one go
    asked, others = columns.numpy() >= 0, _array(own)

    def count(starts: Sequence[int]) -> None:
        tally = _Tally((2, together, step), width)
        for first in starts:
            rows = slice(first, first + step)
            part, wanted = _array(scores[rows]), np.flatnonzero(asked[:, rows].any(axis=1))
            for at in range(0, len(wanted), together):
                positives = wanted[at : at + together]
                other = others[positives, rows, None]
                results = tally.results[:, : len(positives), : len(part)]
                np.greater(part, other, out=results[0])
                np.less(part, other, out=results[1])
                counts[:, positives, rows] = tally.count()[:, : len(positives), : len(part)]

    starts = range(0, len(scores), step)
    threads = min(torch.get_num_threads(), len(starts))
    if threads == 1:
        count(starts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(count, [starts[one::threads] for one in range(threads)]))
    before, below = torch.from_numpy(counts)
    return before, below


def _in_front(scores: Tensor, own: Tensor, column: Tensor) -> Tensor:
    """How many of the scores (r, N) equal the row's own (r, 1) in front of its column (r, 1)."""
    index = torch.arange(scores.shape[1], device=scores.device)
    return ((scores == own) & (index < column)).sum(dim=1)


def _in_front_on_cpu(scores: Tensor, own: Tensor, column: Tensor) -> Tensor:
    tally = _Tally((len(scores),), scores.shape[1])
    np.equal(_array(scores), _array(own), out=tally.results)
    tally.results &= np.arange(scores.shape[1]) < column.numpy()
    return torch.from_numpy(tally.count())


class _Tally:
    """Rows of bool whose True are counted eight at a time, as bytes of an int64.

    NumPy fills it eight times as fast as torch, which compares without vector instructions.

    Attributes:
        results: (..., width), to be filled.
    """

    def __init__(self, shape: Sequence[int], width: int) -> None:
        words = -(-width // 8)
        run = min(words, 255)  # no byte overflows in so many additions
        runs = -(-words // run)
        self._packed = np.zeros((*shape, runs, run), dtype=np.int64)
        flat = self._packed.reshape(*shape, runs * run).view(np.bool_)
        self.results: Any = flat[..., :width]

    def count(self) -> Any:
        """Number (...) int64 of True in each row."""
        return np.add.reduce(self._packed, axis=-1).view(np.uint8).sum(axis=-1, dtype=np.int64)


def _array(scores: Tensor) -> Any:
    """Scores as NumPy has them: half precision in single precision, which orders them alike."""
    half = scores.dtype in (torch.float16, torch.bfloat16)
    return (scores.float() if half else scores).numpy()


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores and columns, each (q, min(k, N)), of the first k of each row's ranking, in order.

    What a full stable sort begins with, bit for bit (NaN first), for a fraction of its time.

    Args:
        scores: (q, N).
        k: At least 0.
    """
    if not 0 < k < scores.shape[1]:
        return _first_of_sort(scores, k)
    values, columns = scores.topk(k + 1, dim=1)
    # Where the next score equals the last, the selection took any of the equal ones.
    torn = values[:, k] == values[:, k - 1]
    broken = values[:, 0].isnan()
    values, columns = _in_order(scores, columns[:, :k].sort(dim=1).values)
    rows = (torn & ~broken).nonzero().flatten()
    if len(rows):
        part = scores[rows]
        values[rows], columns[rows] = _in_order(part, _lowest_columns(part, k, values[rows, -1:]))
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
    taken = above | (level & (level.cumsum(dim=1, dtype=torch.int32) <= room))
    return taken.nonzero()[:, 1].view(-1, k)
