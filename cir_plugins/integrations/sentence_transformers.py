"""Mined n-tuples for sentence-transformers' trainer (extra ``sentence-transformers``)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, tensor

from cir_plugins.integrations.extras import installed
from cir_plugins.mining.negatives import NegativeTable, negatives_of_embeddings
from cir_plugins.mining.report import PoolStatistics

with installed(
    "[sentence-transformers]", "sentence_transformers", "datasets", "transformers", "accelerate"
):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from cir_plugins.integrations.columns import stored
    from cir_plugins.integrations.items import (
        GroupedPositives,
        distinct,
        encoded,
        key,
        plain_labels,
    )
    from cir_plugins.integrations.look_up import lookup_dataset
    from cir_plugins.integrations.refresh import RefreshNegatives

__all__ = ["MinedTuples", "RefreshNegatives"]


class MinedTuples:
    """Anchors, positives and mined negatives; an item is a text, a PIL image or a dict of both.

    ``dataset`` has the columns ``anchor``, ``positive``, ``negative_1`` to ``negative_K`` and looks
    its negatives up when a row is read, so ``refresh`` changes what a running trainer sees. Every
    positive of an equal anchor is never a negative, and neither is what shares the row's label.

    Args:
        model: Encodes with ``encode_query`` and ``encode_document``; unit length is taken care of.
        anchors: One item for each row.
        positives: Likewise.
        sampler: ``(scores, target, excluded) -> mask``, such as ``TargetRelative()``.
        corpus: Further candidates beside the distinct positives.
        labels: Rows of equal label are positives to one another.
        count: Negatives of a row; a short row repeats its own, one without any draws from outside
            of the sampler's bounds, at first from below its positive.
        seed: Seed of the draw; each refresh draws anew, as another epoch.
        batch_size: Of the encoding.

    Attributes:
        filled: Share of the rows that the sampler left fewer than ``count`` negatives when they
            were last mined, 0 to 1; above 0.5 there is a warning.
        report: What the sampler left then, as numbers (see ``PoolStatistics.report``).

    Raises:
        ValueError: If there is no anchor, or positives or labels are not as many.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        *,
        sampler: Any,
        corpus: Sequence[Any] = (),
        labels: Sequence[Hashable] | Tensor | None = None,
        count: int = 4,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        if not len(anchors):
            raise ValueError("anchors is empty; accepted: one or more, each with a positive")
        if len(anchors) != len(positives) or (labels is not None and len(labels) != len(anchors)):
            raise ValueError("anchors, positives and labels must have one item for each row")
        self.model, self.anchors, self.positives = model, anchors, positives
        self.sampler, self.count, self.seed, self.batch_size = sampler, count, seed, batch_size
        self.corpus, columns = distinct([*positives, *corpus])
        self.target = tensor(columns[: len(anchors)])
        groupings = [[key(anchor) for anchor in anchors]]
        groupings += [] if labels is None else [plain_labels(labels)]
        self._right = GroupedPositives(groupings, self.target, len(self.corpus))
        self.table = NegativeTable(self._mine(0))
        self.dataset = lookup_dataset(anchors, positives, self.corpus, self.table)

    def refresh(self) -> float:
        """Share of the old negatives that stay when they are mined with the weights of now."""
        return self.table.refresh(self._mine(self.table.version + 1))

    def frozen(self) -> Dataset:
        """A plain copy; ``ValueError`` where items of several kinds share a column."""
        return stored(self.dataset[:])

    def _mine(self, epoch: int) -> Tensor:
        options = {"batch_size": self.batch_size, "show_progress_bar": False}
        options |= {"convert_to_tensor": True, "normalize_embeddings": True}
        queries = encoded(partial(self.model.encode_query, **options), self.anchors)
        statistics = PoolStatistics(len(self.anchors))
        ids = negatives_of_embeddings(
            queries,
            encoded(partial(self.model.encode_document, **options), self.corpus),
            self.target,
            excluded=self._right,
            count=self.count,
            sampler=self.sampler,
            seed=self.seed,
            epoch=epoch,
            complete=True,
            statistics=statistics,
        )
        self.filled, self.report = statistics.share_below(self.count), statistics.report()
        return ids
