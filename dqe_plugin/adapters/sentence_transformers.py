"""Mined n-tuples for sentence-transformers' trainer (extra ``sentence-transformers``)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import Tensor, tensor

from dqe_plugin.adapters.columns import stored
from dqe_plugin.adapters.items import answers, distinct, encoded, key
from dqe_plugin.adapters.refresh import RefreshNegatives
from dqe_plugin.negatives import NegativeTable, Rule, negatives_of_embeddings

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
        corpus: Where negatives come from: the distinct positives, and these.
        labels: Rows of equal label are right answers to one another.
        sampler: ``(scores, target, excluded) -> mask``; ``TargetRelative()`` if None. Its upper
            bound leaves out what is too easy, its lower what may be right.
        count: Negatives of a row; a short row repeats its own.
        seed: Seed of the draw; each refresh draws anew.
        batch_size: Of the encoding.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        *,
        corpus: Sequence[Any] = (),
        labels: Sequence[Hashable] | None = None,
        sampler: Rule | None = None,
        count: int = 4,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        if len(anchors) != len(positives) or (labels is not None and len(labels) != len(anchors)):
            raise ValueError("anchors, positives and labels must have one item for each row")
        self.model, self.anchors, self.positives = model, anchors, positives
        self.sampler, self.count, self.seed, self.batch_size = sampler, count, seed, batch_size
        self.corpus, columns = distinct([*positives, *corpus])
        self.target = tensor(columns[: len(anchors)])
        groupings = [[key(anchor) for anchor in anchors], labels or []]
        self._right = answers(groupings, self.target, len(self.corpus))
        self.table = NegativeTable(self._mine(seed))
        self._names = ["anchor", "positive", *(f"negative_{k + 1}" for k in range(count))]
        rows = list(range(len(anchors)))  # a row of the dataset is a number until it is read
        self.dataset = Dataset.from_dict(dict.fromkeys(self._names, rows))
        self.dataset.set_transform(self._look_up)

    def refresh(self) -> float:
        """Mine again with the model's weights of now; the share of the old negatives that stay."""
        return self.table.refresh(self._mine(self.seed + self.table.version + 1))

    def frozen(self) -> Dataset:
        """A plain copy; ``ValueError`` where items of several kinds share a column."""
        return stored(self.dataset[:])

    def _look_up(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = batch["anchor"]
        ids = self.table.ids[rows].T.tolist()
        columns = [[self.corpus[place] for place in column] for column in ids]
        known = [[self.anchors[row] for row in rows], [self.positives[row] for row in rows]]
        return dict(zip(self._names, known + columns, strict=True))

    def _mine(self, seed: int) -> Tensor:
        options = {"batch_size": self.batch_size, "show_progress_bar": False}
        options |= {"convert_to_tensor": True, "normalize_embeddings": True}
        queries = encoded(partial(self.model.encode_query, **options), self.anchors)
        device = queries.device
        return negatives_of_embeddings(
            queries,
            encoded(partial(self.model.encode_document, **options), self.corpus),
            self.target.to(device),
            excluded=self._right.to(device),
            count=self.count,
            sampler=self.sampler,
            seed=seed,
            complete=True,
        )
