"""A dataset of mined tuples that looks its items up when a row is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from datasets import Dataset

from cir_plugins.mining.negatives import NegativeTable


def lookup_dataset(
    anchors: Sequence[Any], positives: Sequence[Any], corpus: Sequence[Any], table: NegativeTable
) -> Dataset:
    """Columns ``anchor``, ``positive``, ``negative_1`` ...: looked up when a row is read.

    ``datasets`` hashes a transform whole when it is set: this one is set while it is empty.

    Args:
        anchors: (Q,) items.
        positives: (Q,) items.
        corpus: (N,) items that the table's ids (Q, K) are indices of.
        table: May be refreshed.
    """
    negatives = [f"negative_{number + 1}" for number in range(table.ids.shape[1])]
    names = ["anchor", "positive", *negatives]
    rows = list(range(len(anchors)))  # a row of the dataset is a number until it is read
    dataset = Dataset.from_dict(dict.fromkeys(names, rows))
    look_up = LookUp(names)
    dataset.set_transform(look_up)
    look_up.pairs, look_up.corpus, look_up.table = (anchors, positives), corpus, table
    return dataset


class LookUp:
    """The transform of the dataset's rows; holds the items and the table, not the model.

    Attributes:
        names: The dataset's columns.
        pairs: Items (Q,) of the anchors and of the positives.
        corpus: Items (N,) that the table's ids are indices of.
        table: The negatives.
    """

    pairs: tuple[Sequence[Any], ...]
    corpus: Sequence[Any]
    table: NegativeTable

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._token = uuid4().hex  # no two datasets of as many rows are taken for one another

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """The items of the rows of a batch, by those of the columns that it has."""
        rows = next(iter(batch.values()))
        ids = self.table.ids[rows].T.tolist()
        columns = [[items[row] for row in rows] for items in self.pairs]
        columns += [[self.corpus[index] for index in column] for column in ids]
        items_of = dict(zip(self.names, columns, strict=True))
        return {name: items_of[name] for name in batch}

    def __deepcopy__(self, memo: dict[int, Any]) -> LookUp:
        """Itself: a copy of the dataset reads the same table, and holds no items twice."""
        return self
