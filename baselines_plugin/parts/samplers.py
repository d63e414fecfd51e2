"""Samplers of the baselines."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cir_plugins import eligible


class TwoDrops:
    """The candidates between two steep drops of the scores below the target.

    The candidates below the target are ranked by score, x_0 >= x_1 >= ...; the drops
    x_k - x_(k+1) are ordered from the largest. The first two neighbours in that order whose places
    in the ranking differ by more than ``apart`` are the bounds, and the negatives are what ranks
    after the upper bound's drop and before the lower one's. What ranks above is taken for false
    negatives, what ranks below for easy.

    Candidates with the target's own score count as below it. Equal scores are ranked, and equal
    drops ordered, by column and by rank. Excluded candidates are taken out before anything is
    ranked. A candidate that is listed twice counts twice, with a drop of 0 between.

    Args:
        apart: Places by which the two drops must differ at least by one more; at least 0.
        fallback: What a row without such a pair gets, that is, where three candidates or fewer
            rank below the target, or where the drops only shrink or only grow. ``tail``: all
            that rank below the target, or everything eligible where nothing does; ``none``: no
            negative.

    Raises:
        ValueError: If ``apart`` is below 0.

    Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416, hard negative sampling.
    Differs: there a row without a pair keeps the rank bounds of the query before it, whatever they
    were; here a row depends on itself alone.
    """

    def __init__(self, *, apart: int = 1, fallback: Literal["tail", "none"] = "tail") -> None:
        if apart < 0:
            raise ValueError(f"apart must be at least 0, not {apart}")
        self.apart = apart
        self.fallback = fallback

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """Negatives (Q, N) bool."""
        return self.negatives_and_fallback(scores, target, excluded)[0]

    def negatives_and_fallback(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negatives (Q, N) bool, and rows (Q,) bool without a pair of drops."""
        window, found, below = self._window(scores, target, excluded)
        if self.fallback == "none":
            return window, ~found
        tail = torch.where(below.any(dim=1, keepdim=True), below, eligible(target, excluded))
        return torch.where(found[:, None], window, tail), ~found

    def _window(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What ranks between the drops (Q, N), rows (Q,) with both, what ranks below (Q, N)."""
        scores = scores.float()
        below = eligible(target, excluded) & (scores <= scores.gather(1, target[:, None]))
        ranked, order = scores.masked_fill(~below, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        low, high, found = self._bounds(ranked, below.sum(dim=1, keepdim=True))
        place = torch.arange(ranked.shape[1], device=ranked.device)
        inside = found[:, None] & (place > low) & (place <= high)
        return torch.zeros_like(below).scatter(1, order, inside), found, below

    def _bounds(self, ranked: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places (Q, 1) of the upper and the lower drop, and rows (Q,) that have both.

        ``ranked`` (Q, N) descends; its first ``count`` (Q, 1) entries are candidates.
        """
        if ranked.shape[1] < 3:
            nothing = torch.zeros_like(count)
            return nothing, nothing, nothing.squeeze(1).bool()
        place = torch.arange(ranked.shape[1] - 1, device=ranked.device)
        change = (ranked[:, 1:] - ranked[:, :-1]).masked_fill(place >= count - 1, torch.inf)
        drops = change.sort(dim=1, stable=True).indices  # places, from the largest drop
        far = (drops[:, :-1] - drops[:, 1:]).abs() > self.apart
        far &= place[:-1] + 1 < count - 1
        first = far.int().argmax(dim=1, keepdim=True)
        one, two = drops.gather(1, first), drops.gather(1, first + 1)
        return torch.minimum(one, two), torch.maximum(one, two), far.any(dim=1)
