"""Numbers about the negatives that a sampler leaves, gathered block by block.

Imports torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cir_plugins.mining.blocks import Block, blocks_of_scores
from cir_plugins.mining.relevance import require_mask
from cir_plugins.retrieval.counting import count_true

BINS = 200
SPAN = 2.0  # cosines differ by at most 2
MOST_ROWS = 4096  # whose score gaps are counted: a histogram needs no more

Positives = Tensor | tuple[Tensor, Tensor]


class PoolStatistics:
    """Sizes, emptiness, overlap, false negatives and score gaps of what a sampler leaves.

    Args:
        rows: Number of rows that will be counted; of more than ``MOST_ROWS`` only every second,
            third ... has its score gaps in the histogram.
    """

    def __init__(self, rows: int) -> None:
        self._sizes: list[Tensor] = []
        self._positives: int | None = None
        self._fallback: list[Tensor] = []
        self._overlaps: list[Tensor] = []
        self._ambiguous: list[Tensor] = []
        self._unmarked = [0, 0]  # ambiguous ones, all
        self._gaps = torch.zeros(BINS)
        self._ranks: list[Tensor] = []  # (q, 3) of target, nearest and farthest negative
        self._every = max(1, -(-rows // MOST_ROWS))
        self._seen = 0

    def add_block(
        self,
        block: Block,
        *,
        positives: Positives | None = None,
        previous: Tensor | None = None,
    ) -> None:
        """Count a block of queries.

        Args:
            block: As ``blocks`` yields it.
            positives: Known positives, as for ``add``.
            previous: (q, L) columns drawn before, -1 for none.
        """
        self.add(block.mask, positives)
        if block.scores is not None:
            self.add_scores(block.scores, block.relevance.target, block.mask, block.fallback)
        if previous is not None:
            self.add_previous(previous, block.mask)

    def add(self, mask: Tensor, positives: Positives | None = None) -> None:
        """Count the negatives (q, N) bool of a block, and the known positives among them.

        Args:
            mask: (q, N).
            positives: Rows and columns (M,) of the positives, or (q, N) bool; None if unknown.
        """
        self._sizes.append(count_true(mask).cpu())
        if positives is not None:
            self._positives = (self._positives or 0) + int(mask[positives].sum())

    def add_scores(
        self, scores: Tensor, target: Tensor, mask: Tensor, fallback: Tensor | None
    ) -> None:
        """Count score gaps and ranks of target and negatives, and rows (q,) that fell back."""
        first = -self._seen % self._every
        self._seen += len(scores)
        rows = slice(first, None, self._every)
        some = scores[rows] if scores.dtype == torch.float64 else scores[rows].float()
        chosen, own = mask[rows], some.gather(1, target[rows, None])
        self._gaps += torch.histc((own - some)[chosen].float().cpu(), BINS, -SPAN, SPAN)
        self._ranks.append(_ranks(some, own, chosen).cpu())
        if fallback is not None:
            self._fallback.append(fallback.cpu())

    def add_previous(self, drawn: Tensor, mask: Tensor) -> None:
        """Count how much of the previous draw, columns (q, L) or -1, could be drawn again."""
        present = drawn >= 0
        number = present.sum(dim=1)
        inside = (mask.gather(1, drawn.clamp(min=0)) & present).sum(dim=1)
        self._overlaps.append((inside / number)[number > 0].cpu())

    def add_ambiguous(self, mask: Tensor, excluded: Tensor, positives: Positives) -> None:
        """Count the ambiguous candidates (q, N) bool, and the unmarked positives among them.

        Args:
            mask: (q, N) bool.
            excluded: (q, N) bool, what is no negative for other reasons, the target included.
            positives: Known positives, as for ``add``.
        """
        self._ambiguous.append(count_true(mask).cpu())
        self._unmarked[0] += int(mask[positives].sum())
        self._unmarked[1] += int((~excluded)[positives].sum())

    @classmethod
    def joined(cls, shares: Sequence[PoolStatistics]) -> PoolStatistics:
        """The statistics of several processes' rows, in their order."""
        if len(shares) == 1:
            return shares[0]
        whole = cls(0)
        for share in shares:
            whole._sizes += share._sizes
            if share._positives is not None:
                whole._positives = (whole._positives or 0) + share._positives
            whole._fallback += share._fallback
            whole._overlaps += share._overlaps
            whole._ambiguous += share._ambiguous
            pairs = zip(whole._unmarked, share._unmarked, strict=True)
            whole._unmarked = [one + other for one, other in pairs]
            whole._gaps += share._gaps
            whole._ranks += share._ranks
        return whole

    def share_below(self, count: int) -> float:
        """Share of the rows with fewer than ``count`` negatives, 0 to 1."""
        sizes = torch.cat(self._sizes) if self._sizes else torch.empty(0)
        return float((sizes < count).double().mean()) if len(sizes) else 0.0

    def report(self) -> dict[str, Any]:
        """The numbers, shares in [0, 1]; those that nothing was counted for are left out.

        ``negative_pool`` (``mean`` and ``quartiles`` of the number of negatives left), ``empty``
        (share of rows without any), ``fallback`` (share of rows filled from outside the sampler's
        rule), ``kept`` (share of the previous draw that could be drawn again), ``false_negatives``
        (share of the negatives that are known positives), ``ambiguous`` (``mean`` number of
        ambiguous candidates of a row, share of ``unmarked`` positives among them, and share of
        all unmarked positives that is ``covered``), ``ranks`` (of all candidates, by score: medians
        over the rows with negatives of the ranks of ``target``, ``nearest`` and ``farthest``
        negative) and ``score_gap`` (``counts`` of the score gaps from target to negatives, in equal
        bins over ``span``).
        """
        sizes = torch.cat(self._sizes).double()
        report: dict[str, Any] = {
            "negative_pool": {
                "mean": float(sizes.mean()),
                "quartiles": [float(sizes.quantile(q)) for q in (0.25, 0.5, 0.75)],
            },
            "empty": float((sizes == 0).double().mean()),
        }
        if self._positives is not None:
            report["false_negatives"] = self._positives / max(1, int(sizes.sum()))
        if self._fallback:
            report["fallback"] = float(torch.cat(self._fallback).double().mean())
        overlaps = torch.cat(self._overlaps) if self._overlaps else torch.empty(0)
        if len(overlaps):
            report["kept"] = float(overlaps.double().mean())
        if self._ambiguous:
            report["ambiguous"] = self._ambiguous_report()
        ranks = torch.cat(self._ranks) if self._ranks else torch.empty(0, 3)
        if len(ranks):
            medians = ranks.double().quantile(0.5, dim=0).tolist()
            report["ranks"] = dict(zip(("target", "nearest", "farthest"), medians, strict=True))
        if self._gaps.sum() > 0:
            report["score_gap"] = {"span": [-SPAN, SPAN], "counts": self._gaps.long().tolist()}
        return report

    def _ambiguous_report(self) -> dict[str, float]:
        total = int(torch.cat(self._ambiguous).sum())
        found, unmarked = self._unmarked
        report = {"mean": total / sum(map(len, self._ambiguous))}
        if unmarked:
            report |= {"unmarked": found / max(1, total), "covered": found / unmarked}
        return report


def _ranks(scores: Tensor, own: Tensor, chosen: Tensor) -> Tensor:
    """Ranks (r, 3) of the target's score (q, 1) and of the chosen (q, N), of rows with any."""
    nearest = scores.masked_fill(~chosen, -torch.inf).amax(dim=1, keepdim=True)
    farthest = scores.masked_fill(~chosen, torch.inf).amin(dim=1, keepdim=True)
    ranks = [count_true(scores > own) + 1, count_true(scores > nearest) + 1]
    ranks.append(count_true(scores >= farthest))
    return torch.stack(ranks, dim=1)[chosen.any(dim=1)]


def negative_pool_report(
    scores: Tensor,
    positives: Tensor,
    sampler: Any,
    *,
    excluded: Tensor | None = None,
    all_positives: Tensor | None = None,
) -> dict[str, Any]:
    """What the sampler leaves each row, as numbers; for all rows or a sample of them.

    As ``PoolStatistics.report`` has them and ``cir report`` shows them. A sampler has collapsed
    where ``empty`` or ``fallback`` is near 1.

    Args:
        scores: (Q, N) float, higher is closer; Q and N at least 1.
        positives: (Q,) int column of the target (-1: none), or (Q, N) bool.
        sampler: A ``cir_plugins.Sampler``: ``(scores, target, excluded) -> (Q, N) bool``.
        excluded: (Q, N) bool, further candidates that may never be negatives.
        all_positives: (Q, N) bool, what is right, marked or not, where that is known.

    Raises:
        ValueError: If there is nothing to report on, or a shape, a dtype or a column does not fit.
    """
    if not scores.numel():
        raise ValueError(f"scores {tuple(scores.shape)} hold nothing to report on")
    if all_positives is not None:
        require_mask("all_positives", all_positives, scores)
    statistics = PoolStatistics(len(scores))
    for block in blocks_of_scores(scores, positives, sampler, excluded=excluded):
        right = None if all_positives is None else all_positives[block.rows]
        statistics.add_block(block, positives=right)
    return statistics.report()
