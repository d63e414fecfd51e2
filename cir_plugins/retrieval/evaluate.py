"""Retrieval of a split: every image encoded once, scores by blocks, ranks without a full sort."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cir_plugins.data.split import Query, Split
from cir_plugins.encoding.features import Encoding, feature_batches
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.embed import embed, query_text
from cir_plugins.retrieval.metrics import per_query, positive_ranks
from cir_plugins.retrieval.ranking import top_k
from cir_plugins.retrieval.scores import rows_per_block, score


@dataclass(frozen=True)
class Encoded:
    """Embeddings of a split, on the device.

    Attributes:
        split: The split.
        queries: (Q, D), or (Q, S, D) for methods with several vectors per query.
        targets: (N, D) or (N, T, D), in gallery order.
    """

    split: Split
    queries: Tensor
    targets: Tensor


@dataclass(frozen=True)
class SplitResult:
    """What a split's queries reached.

    Attributes:
        split: Name of the split.
        measures: Measure -> mean over the queries, a fraction.
        values: Measure -> (Q,) value of each query.
        queries: Number of queries with a target.
        gallery: Number of images ranked.
    """

    split: str
    measures: Mapping[str, float]
    values: Mapping[str, Tensor] = field(repr=False)
    queries: int
    gallery: int


def encode_split(method: Method, split: Split, encoding: Encoding) -> Encoded:
    """Queries and gallery of a split; each distinct image is opened and encoded once.

    Queries are composed as soon as their reference's features are there, so that features of at
    most one chunk of images are held.

    Raises:
        CIRError: If the split has no queries or no gallery.
    """
    if not split.queries or not split.gallery:
        raise CIRError(f"split '{split.name}' has no {'gallery' if split.queries else 'queries'}")
    names = list(dict.fromkeys([*split.gallery, *(query.reference for query in split.queries)]))
    number = {name: index for index, name in enumerate(names)}
    paths = [split.paths[name] for name in names]
    queries, targets = embed(
        method,
        feature_batches(method.backbone, paths, encoding, split.name),
        encoding,
        gallery=len(split.gallery),
        references=[number[query.reference] for query in split.queries],
        texts=[query_text(method, query, split.captions) for query in split.queries],
    )
    return Encoded(split, queries, targets)


def score_blocks(method: Method, encoded: Encoded) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of (rows, scores (q, N)); a removed reference scores -inf.

    A block is all that is kept of the score matrix.
    """
    split = encoded.split
    number = {name: index for index, name in enumerate(split.gallery)}
    step = rows_per_block(len(encoded.targets), encoded.queries.device)
    for first in range(0, len(encoded.queries), step):
        rows = slice(first, min(first + step, len(encoded.queries)))
        scores = score(encoded.queries[rows], encoded.targets, method.similarity)
        if split.drop_reference:
            places = [number.get(query.reference, -1) for query in split.queries[rows]]
            column = torch.tensor(places, device=scores.device)
            row = torch.arange(len(places), device=scores.device)
            scores[row[column >= 0], column[column >= 0]] = -torch.inf
        yield rows, scores
        del scores  # the next block takes its place, in memory and in the processor's caches


def evaluate(method: Method, split: Split, encoding: Encoding) -> SplitResult:
    """The split's measures for a method.

    Raises:
        CIRError: If no query has a target (a blind test split).
    """
    if split.queries and all(query.target is None for query in split.queries):
        raise CIRError(
            f"split '{split.name}' is blind: its targets are not public. Write a submission instead"
        )
    return evaluate_encoded(method, encode_split(method, split, encoding))


def evaluate_encoded(method: Method, encoded: Encoded) -> SplitResult:
    """The measures of a split that has been encoded."""
    split = encoded.split
    number = {name: index for index, name in enumerate(split.gallery)}
    positives = _padded([_answers(query, number) for query in split.queries])
    positives = positives.to(encoded.queries.device)
    counts = torch.tensor([max(1, len(query.positives)) for query in split.queries])
    grouped = any(query.group for query in split.queries)
    ranks, subset = [], []
    for rows, scores in score_blocks(method, encoded):
        ranks.append(positive_ranks(scores, positives[rows]).cpu())
        if grouped:
            subset.append(_subset_ranks(scores, split.queries[rows], number).cpu())
        del scores
    all_ranks = torch.cat(ranks)
    subset_ranks = torch.cat(subset) if grouped else None
    values = {name: per_query(name, all_ranks, subset_ranks, counts) for name in split.measures}
    measures = {name: float(value.mean()) for name, value in values.items()}
    return SplitResult(split.name, measures, values, len(split.queries), len(split.gallery))


def _answers(query: Query, number: Mapping[str, int]) -> list[int]:
    """Gallery indices of the positives, the target first; -1 for one that is not there."""
    named = [query.target, *(name for name in query.positives if name != query.target)]
    return [number.get(name, -1) if name is not None else -1 for name in named]


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *([-1] * (width - len(row)))] for row in rows])


def _subset_ranks(scores: Tensor, queries: Sequence[Query], number: Mapping[str, int]) -> Tensor:
    """Rank (q,) of the target among its group, the reference left out."""
    members = [
        sorted(number[name] for name in query.group if name in number and name != query.reference)
        for query in queries
    ]
    columns = _padded([row or [-1] for row in members]).to(scores.device)
    inside = columns >= 0
    part = scores.gather(1, columns.clamp(min=0)).masked_fill(~inside, -torch.inf)
    targets = [number.get(query.target or "", -2) for query in queries]
    place = torch.tensor(
        [
            [row.index(target) if target in row else -1]
            for row, target in zip(members, targets, strict=True)
        ],
        device=scores.device,
    )
    return positive_ranks(part, place)[:, 0]


def rankings(
    method: Method,
    encoded: Encoded,
    k: int,
    rows: Sequence[int] | None = None,
    *,
    groups: bool = False,
) -> list[list[str]]:
    """Image ids of the first k of each query's ranking, of the given rows or of all, in order.

    A removed reference is not ranked. With ``groups`` the members of the query's group that are
    not among the first k follow, in the order in which they rank.
    """
    gallery = encoded.split.gallery
    number = {name: index for index, name in enumerate(gallery)}
    wanted = range(len(encoded.queries)) if rows is None else rows
    found: dict[int, list[str]] = {}
    for block, scores in score_blocks(method, encoded):
        kept = sorted(set(wanted) & set(range(block.start, block.stop)))
        best, order = top_k(scores[[row - block.start for row in kept]], k)
        for row, columns, values in zip(kept, order.tolist(), best.tolist(), strict=True):
            if groups:
                members = {number.get(name, -1) for name in encoded.split.queries[row].group}
                rest = torch.tensor(sorted(members - {-1, *columns}), dtype=torch.int64)
                more, places = top_k(scores[row - block.start, rest][None], len(rest))
                columns += rest[places[0].cpu()].tolist()
                values += more[0].tolist()
            pairs = zip(columns, values, strict=True)
            found[row] = [gallery[column] for column, value in pairs if value > -torch.inf]
    return [found[row] for row in wanted]


def average(results: Sequence[SplitResult]) -> dict[str, float]:
    """Mean of each measure over the splits, those that all splits have."""
    common = [
        name for name in results[0].measures if all(name in result.measures for result in results)
    ]
    return {name: sum(r.measures[name] for r in results) / len(results) for name in common}


def report(dataset: str, protocol: str, results: Sequence[SplitResult]) -> dict[str, Any]:
    """The JSON object of an evaluation."""
    return {
        "dataset": dataset,
        "protocol": protocol,
        "splits": {result.split: dict(result.measures) for result in results},
        "average": average(results),
        "queries": sum(result.queries for result in results),
        "gallery": sum(result.gallery for result in results),
    }


def main_value(measures: Mapping[str, float], main: Sequence[str]) -> float:
    """The protocol's one number: the mean of its main measures."""
    return sum(measures[name] for name in main) / len(main)
