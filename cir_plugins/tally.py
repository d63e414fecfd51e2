"""Numbers about mined pools, gathered block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BINS = 200
SPAN = 2.0  # cosines differ by at most 2


class Tally:
    """Sizes, emptiness, overlap, false negatives and score drops of the pools of a refresh."""

    def __init__(self) -> None:
        self._sizes: list[Tensor] = []
        self._answers = 0
        self._fallback: list[Tensor] = []
        self._kept: list[float] = []
        self._drops = torch.zeros(BINS)

    def add(self, mask: Tensor, answers: Tensor) -> None:
        """Count the pools (q, N) bool of a block, and the known right answers (q, N) in them."""
        self._sizes.append(mask.sum(dim=1).cpu())
        self._answers += int((mask & answers).sum())

    def add_scores(
        self, scores: Tensor, target: Tensor, mask: Tensor, fallback: Tensor | None
    ) -> None:
        """Count score drops from target to pool, and rows (q,) filled from outside the rule."""
        drops = (scores.gather(1, target[:, None]) - scores)[mask]
        self._drops += torch.histc(drops.float().cpu(), BINS, -SPAN, SPAN)
        if fallback is not None:
            self._fallback.append(fallback.cpu())

    def add_previous(self, images: Tensor, mask: Tensor, column: Mapping[int, int]) -> None:
        """Count how much of the previous draw (q, L) is still in the pools."""
        for row, drawn in enumerate(images.tolist()):
            places = [column[image] for image in set(drawn) if image in column]
            if places:
                self._kept.append(float(mask[row, places].float().mean()))

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
        if self._kept:
            report["kept"] = sum(self._kept) / len(self._kept)
        if self._drops.sum() > 0:
            report["drop"] = {"span": [-SPAN, SPAN], "counts": self._drops.long().tolist()}
        return report
