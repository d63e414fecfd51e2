"""Samplers of the baselines."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cir_plugins import eligible


class TwoDrops:
    """Negatives between two large score gaps below the target: QuRe's sampler.

    The candidates below the target are ranked by score, x_0 >= x_1 >= ...; the gaps
    x_k - x_(k+1) are ordered from the largest. The first two neighbours in that order whose ranks
    differ by more than ``apart`` are the bounds. Negatives are the candidates that rank after the
    upper gap and before the lower one. Candidates above count as false negatives, candidates
    below as easy.

    Candidates with the target's own score count as below it. Equal scores are ordered by column,
    equal gaps by rank. Excluded candidates are left out of the ranking. A candidate that is
    there twice counts twice, with a gap of 0 between.

    Args:
        apart: The ranks of the two gaps differ by more than this; at least 0.
        fallback: Negatives of a row without such a pair: three candidates or fewer rank below the
            target, or the gaps only shrink or only grow. ``tail``: all that rank below the
            target, or all eligible candidates where none does; ``none``: no negative.

    Raises:
        ValueError: If ``apart`` is below 0.

    Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416, hard negative sampling.
    Differs: there a row without a pair keeps the rank bounds of the query before it; here a row
    depends on itself alone.
    """

    def __init__(
        self, *, apart: Annotated[int, Field(ge=0)] = 1, fallback: Literal["tail", "none"] = "tail"
    ) -> None:
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
        """Negatives (Q, N) bool, and rows (Q,) bool without a pair of gaps."""
        window, bounded, below = self._window(scores, target, excluded)
        if self.fallback == "none":
            return window, ~bounded
        tail = torch.where(below.any(dim=1, keepdim=True), below, eligible(target, excluded))
        return torch.where(bounded[:, None], window, tail), ~bounded

    def _window(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates between the gaps (Q, N), rows (Q,) with both, candidates below the target."""
        scores = scores.float()
        below = eligible(target, excluded) & (scores <= scores.gather(1, target[:, None]))
        ranked, order = scores.masked_fill(~below, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        low, high, bounded = self._bounds(ranked, below.sum(dim=1, keepdim=True))
        rank = torch.arange(ranked.shape[1], device=ranked.device)
        inside = bounded[:, None] & (rank > low) & (rank <= high)
        return torch.zeros_like(below).scatter(1, order, inside), bounded, below

    def _bounds(self, ranked: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ranks (Q, 1) of the upper and the lower gap, and rows (Q,) that have both.

        ``ranked`` (Q, N) descends; its first ``count`` (Q, 1) entries are candidates.
        """
        if ranked.shape[1] < 3:
            nothing = torch.zeros_like(count)
            return nothing, nothing, nothing.squeeze(1).bool()
        rank = torch.arange(ranked.shape[1] - 1, device=ranked.device)
        change = (ranked[:, 1:] - ranked[:, :-1]).masked_fill(rank >= count - 1, torch.inf)
        gaps = change.sort(dim=1, stable=True).indices  # ranks, from the largest gap
        far = (gaps[:, :-1] - gaps[:, 1:]).abs() > self.apart
        far &= rank[:-1] + 1 < count - 1
        first = far.int().argmax(dim=1, keepdim=True)
        one, two = gaps.gather(1, first), gaps.gather(1, first + 1)
        return torch.minimum(one, two), torch.maximum(one, two), far.any(dim=1)
