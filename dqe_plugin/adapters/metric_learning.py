"""Target-relative negatives as a miner of pytorch-metric-learning (extra ``metric-learning``)."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor

from dqe_plugin.negatives import Rule, draw
from dqe_plugin.pools import rows_per_block
from dqe_plugin.sampler import TargetRelative

Triplets = tuple[Tensor, Tensor, Tensor]


class TargetRelativeMiner(BaseMiner):  # type: ignore[misc]
    """Triplets whose negative scores within a chosen distance below the positive.

    Every pair of equal labels is a row of the sampler, the pair's second half its target; what has
    the anchor's label is never a negative. Works with the library's losses, as the miner of
    ``CrossBatchMemory``, and in ``DistributedMinerWrapper``.

    Args:
        sampler: ``(scores, target, excluded) -> mask``; ``TargetRelative()`` if None. The unit
            ``absolute`` reads differences of the miner's distance: cosines unless it is replaced.
        count: Most triplets of a pair, drawn by hash; None keeps all.
        seed: Seed of that draw.
        block: Pairs sampled at once; None takes as many as suit the device.
        **kwargs: Options of the library's ``BaseMiner``, such as ``distance``.
    """

    def __init__(
        self,
        sampler: Rule | None = None,
        *,
        count: int | None = None,
        seed: int = 0,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler = TargetRelative() if sampler is None else sampler
        self.count = count
        self.seed = seed
        self.block = block

    def get_default_distance(self) -> CosineSimilarity:
        """Cosine similarity, the scores that the sampler was made for."""
        return CosineSimilarity()

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Indices (anchor, positive, negative), each (T,) int64; the last two into ``ref_emb``."""
        scores = self.distance(embeddings, ref_emb)
        scores = scores if self.distance.is_inverted else -scores
        anchor, positive, _, _ = loss_and_miner_utils.get_all_pairs_indices(labels, ref_labels)
        parts = [(anchor[:0], anchor[:0], anchor[:0])]
        step = self.block or rows_per_block(len(ref_labels), scores.device)
        for start in range(0, len(anchor), step):
            first, second = anchor[start : start + step], positive[start : start + step]
            same = labels[first, None] == ref_labels[None, :]
            mask = self.sampler(scores[first], second, same)
            pair, negative = self._chosen(mask, start)
            parts.append((first[pair], second[pair], negative))
        first, second, third = (torch.cat(column) for column in zip(*parts, strict=True))
        return first, second, third

    def _chosen(self, mask: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Row and column of each triplet kept."""
        if self.count is None:
            row, column = mask.nonzero(as_tuple=True)
            return row, column
        ids = draw(mask, self.count, seed=self.seed, first_row=start)
        row, place = (ids >= 0).nonzero(as_tuple=True)
        return row, ids[row, place]
