"""Exact search of a gallery in memory: embeddings with ids, and the first images of a ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from os import PathLike
from typing import Any, Literal, SupportsIndex, TypeAlias

import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.retrieval.ranking import top_k
from cir_plugins.retrieval.scores import Similarity, rows_per_block, score

Ids: TypeAlias = "str | PathLike[str] | Iterable[str | PathLike[str]]"
"""An id or several; a path counts as its text."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings with their ids, on the retriever's device.

    Attributes:
        ids: One for each image or query: keys of a mapping, path strings, or numbers for pictures
            in memory; of queries the texts that were encoded.
        vectors: (N, D), or (N, T, D) with T vectors for each image or query.
        source: The function that made them; "" for another.
    """

    ids: tuple[str, ...]
    vectors: Tensor
    source: Literal["", "encode_images", "encode_query"] = ""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Embeddings({len(self)}, shape={tuple(self.vectors.shape)})"


@dataclass(frozen=True)
class Hits:
    """First images of each query's ranking, best first; equal scores in gallery order.

    Attributes:
        ids: Image ids of each query.
        scores: Their scores, higher is closer.
    """

    ids: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, query: int) -> list[tuple[str, float]]:
        """The (id, score) pairs of a query, best first."""
        return list(zip(self.ids[query], self.scores[query], strict=True))

    def __iter__(self) -> Iterator[list[tuple[str, float]]]:
        return (self[query] for query in range(len(self)))

    def __str__(self) -> str:
        several = len(self) > 1
        lines = []
        for number, pairs in enumerate(self):
            lines += [f"query {number}"] if several else []
            lines += [
                f"{rank:>4}  {value:.4f}  {name}" for rank, (name, value) in enumerate(pairs, 1)
            ]
        return "\n".join(lines)


def search(
    query: Embeddings,
    gallery: Embeddings,
    k: int,
    similarity: Similarity,
    device: torch.device,
    exclude: Ids | Sequence[Ids] = (),
) -> Hits:
    """The k best gallery images of each query, scored a block of queries at a time.

    Args:
        query: Embeddings of the queries.
        gallery: Embeddings of the images.
        k: Images per query.
        similarity: Scores (q, N) of queries and images.
        device: Where scores are computed.
        exclude: Ids that are left out: for all queries, or one collection of ids for each.

    Raises:
        CIRError: If k is below 1, or query and gallery are of different embedding sizes.
    """
    _check(query, gallery, k)
    sizes = query.vectors.shape[-1], gallery.vectors.shape[-1]
    if sizes[0] != sizes[1]:
        raise CIRError(
            f"the gallery's embeddings have size {sizes[1]}, the query's {sizes[0]}; "
            "accepted: both from the same retriever"
        )
    columns = _excluded_columns(exclude, gallery.ids, len(query))
    queries, targets = (each.vectors.to(device) for each in (query, gallery))
    step = rows_per_block(len(gallery), device)
    ids: list[tuple[str, ...]] = []
    values: list[tuple[float, ...]] = []
    for first in range(0, len(query), step):
        scores = score(queries[first : first + step], targets, similarity)
        for row, left_out in enumerate(columns[first : first + step]):
            if left_out:
                scores[row, left_out] = -torch.inf
        best, order = top_k(scores, k)
        for row_values, row_order in zip(best.tolist(), order.tolist(), strict=True):
            ranked = [p for p in zip(row_order, row_values, strict=True) if p[1] > -torch.inf]
            ids.append(tuple(gallery.ids[column] for column, _ in ranked))
            values.append(tuple(value for _, value in ranked))
    return Hits(tuple(ids), tuple(values))


def _check(query: object, gallery: object, k: object) -> None:
    for name, value, source in (
        ("query", query, "encode_query"),
        ("gallery", gallery, "encode_images"),
    ):
        if not isinstance(value, Embeddings):
            raise CIRError(
                f"the {name} cannot be {type(value).__name__}; accepted: what {source} gives"
            )
    if getattr(gallery, "source", "") == "encode_query":
        raise CIRError(
            "the gallery is what encode_query gave: are the arguments swapped?\n"
            "accepted: search(query, gallery)"
        )
    check_count("k", k)


def check_count(name: str, value: object) -> None:
    """Check a number of things of which there must be one or more.

    Raises:
        CIRError: If it is no whole number, or below 1.
    """
    whole = isinstance(value, SupportsIndex) and not isinstance(value, bool)
    if not whole or index(value) < 1:  # type: ignore[arg-type]
        raise CIRError(f"{name} cannot be {value!r}; accepted: a whole number of 1 or more")


def _excluded_columns(exclude: object, ids: Sequence[str], queries: int) -> list[list[int]]:
    """Gallery columns that are left out, for each query."""
    entries = _members(exclude)
    shared = [str(each) for each in entries if isinstance(each, str | PathLike)]
    if len(shared) == len(entries):
        groups = [shared] * queries
    else:
        groups = [[str(name) for name in _members(each)] for each in entries]
    if len(groups) != queries:
        raise CIRError(
            f"exclude has ids for {len(groups)} queries, there are {queries}; accepted: ids for "
            "all queries, or one collection of ids for each"
        )
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(ids):
        columns.setdefault(name, []).append(column)
    return [[column for name in set(group) for column in columns.get(name, ())] for group in groups]


def _members(exclude: object) -> list[Any]:
    if isinstance(exclude, str | PathLike):
        return [exclude]
    if isinstance(exclude, bytes | Mapping) or not isinstance(exclude, Iterable):
        raise CIRError(
            f"exclude cannot hold {type(exclude).__name__}; accepted: an id, ids for all queries, "
            "or one collection of ids for each"
        )
    return list(exclude)
