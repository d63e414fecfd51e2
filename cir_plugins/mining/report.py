"""Numbers about mined pools, gathered block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BINS = 200
SPAN = 2.0  # cosines differ by at most 2
MOST_ROWS = 4096  # whose score drops are counted: a histogram needs no more


class PoolStatistics:
    """Sizes, emptiness, overlap, false negatives and score drops of the pools of a refresh.

    Args:
        rows: Number of rows that will be counted; of more than ``MOST_ROWS`` only every second,
            third ... has its score drops in the histogram.
    """

    def __init__(self, rows: int) -> None:
        self._sizes: list[Tensor] = []
        self._answers = 0
        self._fallback: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._drops = torch.zeros(BINS)
        self._every = -(-rows // MOST_ROWS)
        self._seen = 0

    def add(self, mask: Tensor, positives: tuple[Tensor, Tensor]) -> None:
        """Count the pools (q, N) bool of a block, and the known positives in them.

        Args:
            mask: (q, N).
            positives: (M,) rows and columns of the positives.
        """
        self._sizes.append(_sizes(mask).cpu())
        self._answers += int(mask[positives].sum())

    def add_scores(
        self, scores: Tensor, target: Tensor, mask: Tensor, fallback: Tensor | None
    ) -> None:
        """Count score drops from target to pool, and rows (q,) filled from outside the rule."""
        first = -self._seen % self._every
        self._seen += len(scores)
        rows = slice(first, None, self._every)
        drops = (scores[rows].gather(1, target[rows, None]) - scores[rows])[mask[rows]]
        self._drops += torch.histc(drops.float().cpu(), BINS, -SPAN, SPAN)
        if fallback is not None:
            self._fallback.append(fallback.cpu())

    def add_previous(self, drawn: Tensor, mask: Tensor) -> None:
        """Count how much of the previous draw, columns (q, L) or -1, is still in the pools."""
        there = drawn >= 0
        number = there.sum(dim=1)
        inside = (mask.gather(1, drawn.clamp(min=0)) & there).sum(dim=1)
        self._kept.append((inside / number)[number > 0].cpu())

    @classmethod
    def joined(cls, tallies: Sequence[PoolStatistics]) -> PoolStatistics:
        """What several processes have counted, in their order."""
        if len(tallies) == 1:
            return tallies[0]
        whole = cls(0)
        for tally in tallies:
            whole._sizes += tally._sizes
            whole._answers += tally._answers
            whole._fallback += tally._fallback
            whole._kept += tally._kept
            whole._drops += tally._drops
        return whole

    def report(self) -> dict[str, Any]:
        """The numbers, shares in [0, 1]; those that nothing was counted for are left out."""
        sizes = torch.cat(self._sizes).double()
        report: dict[str, Any] = {
            "pool": {
                "mean": float(sizes.mean()),
                "quartiles": [float(sizes.quantile(q)) for q in (0.25, 0.5, 0.75)],
            },
            "empty": float((sizes == 0).double().mean()),
            "false_negatives": self._answers / max(1, int(sizes.sum())),
        }
        if self._fallback:
            report["fallback"] = float(torch.cat(self._fallback).double().mean())
        kept = torch.cat(self._kept) if self._kept else torch.empty(0)
        if len(kept):
            report["kept"] = float(kept.double().mean())
        if self._drops.sum() > 0:
            report["drop"] = {"span": [-SPAN, SPAN], "counts": self._drops.long().tolist()}
        return report


def _sizes(mask: Tensor) -> Tensor:
    """Number (Q,) int64 of True in each row; on a CPU twenty times as fast as torch's sum."""
    run = 8 * 255
    whole = mask.shape[1] // run * run
    if mask.device.type != "cpu" or not whole:
        return mask.sum(dim=1)
    # Eight at a time as bytes of an int64; no byte overflows in 255 additions.
    packed = mask[:, :whole].contiguous().view(torch.int64).view(len(mask), whole // run, 255)
    return packed.sum(dim=2).view(torch.uint8).sum(dim=1) + mask[:, whole:].sum(dim=1)
