"""A sampler's negatives as a miner of pytorch-metric-learning (extra ``metric-learning``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cir_plugins.integrations.extras import installed
from cir_plugins.mining.blocks import blocks
from cir_plugins.mining.draw import draw
from cir_plugins.mining.relevance import Relevance

with installed("[metric-learning]", "pytorch_metric_learning"):
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.miners import BaseMiner
    from pytorch_metric_learning.utils import loss_and_miner_utils

Triplets = tuple[Tensor, Tensor, Tensor]


class SamplerMiner(BaseMiner):  # type: ignore[misc]
    """Triplets whose negatives a sampler chooses.

    Every pair of equal labels is a row of the sampler, the pair's second half its target; what has
    the anchor's label is never a negative. Works with the library's losses, as the miner of
    ``CrossBatchMemory``, and in ``DistributedMinerWrapper``.

    Args:
        sampler: ``(scores, target, excluded) -> mask``, such as ``TargetRelative()``. Its scores
            are the miner's similarities: cosines unless the distance is replaced.
        count: Most triplets of a pair, drawn by hash; None keeps all.
        seed: Seed of that draw.
        block: Pairs sampled at once; as many as suit the device if left out.
        **kwargs: Options of the library's ``BaseMiner``, such as ``distance``.

    Attributes:
        epoch: Epoch of the draw, 0 until it is set; another one draws anew.
    """

    def __init__(
        self,
        sampler: Any,
        *,
        count: int | None = None,
        seed: int = 0,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler = sampler
        self.count = count
        self.seed = seed
        self.epoch = 0
        self.block = block

    def get_default_distance(self) -> CosineSimilarity:
        """Cosine similarity, whose scores samplers are made for."""
        return CosineSimilarity()

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> Triplets:
        """Indices (anchor, positive, negative), each (T,) int64; the last two into ``ref_emb``."""
        scores = self.distance(embeddings, ref_emb).detach()
        scores = scores if self.distance.is_inverted else -scores
        anchor, positive, _, _ = loss_and_miner_utils.get_all_pairs_indices(labels, ref_labels)
        triplets = [(anchor[:0], anchor[:0], anchor[:0])]
        for block in blocks(
            lambda rows: scores[anchor[rows]],
            lambda rows, _: Relevance(
                positive[rows], labels[anchor[rows], None] == ref_labels[None, :]
            ),
            self.sampler,
            rows=range(len(anchor)),
            candidates=len(ref_labels),
            device=scores.device,
            size=self.block,
        ):
            pair, negative = self._drawn(block.mask, block.rows.start)
            triplets.append((anchor[block.rows][pair], positive[block.rows][pair], negative))
        first, second, third = (torch.cat(column) for column in zip(*triplets, strict=True))
        return first, second, third

    def _drawn(self, mask: Tensor, first_row: int) -> tuple[Tensor, Tensor]:
        """Row and column of each triplet."""
        if self.count is None:
            row, column = mask.nonzero(as_tuple=True)
            return row, column
        ids = draw(mask, self.count, seed=self.seed, epoch=self.epoch, first_row=first_row)
        row, number = (ids >= 0).nonzero(as_tuple=True)
        return row, ids[row, number]
