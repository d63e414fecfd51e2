"""Retrieval of a split: every image encoded once, scores by blocks, ranks without a full sort."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cir_plugins.data.identical import positives_across
from cir_plugins.data.split import Split, SplitArrays, left_out
from cir_plugins.encoding.features import Encoding, feature_batches
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.retrieval.embed import query_text
from cir_plugins.retrieval.faults import confusion, faults, suppression
from cir_plugins.retrieval.fixed import embed_fixed
from cir_plugins.retrieval.metrics import per_query, positive_ranks
from cir_plugins.retrieval.ranking import top_k
from cir_plugins.retrieval.scores import rows_per_block, score
from cir_plugins.workers import worker_errors

INCOMPLETE = "(images missing)"
COUNTS = ("queries", "pairs")  # of the numbers on a fault


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
    """Measures of a split, over its Q queries with a target.

    Attributes:
        split: Name of the split.
        measures: Measure -> mean over the queries, a fraction.
        values: Measure -> (Q,) value of each query, in order.
        queries: Number of queries with a target, Q.
        gallery: Number of images ranked.
        blind: Number of further queries, without a target.
        unreachable: Queries whose target is the reference that leaves their ranking.
        left_out: Counts of what the split lacks because images are missing, by name.
        positives_across: Positives that are known only from triplets with the same reference and
            captions; no measure counts them.
        faults: ``suppression`` and ``confusion`` (see ``retrieval/faults.py``), where the data has
            queries for them.
    """

    split: str
    measures: Mapping[str, float]
    values: Mapping[str, Tensor] = field(repr=False)
    queries: int
    gallery: int
    blind: int = 0
    unreachable: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    positives_across: int = 0
    faults: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)


@worker_errors()
def encode_split(method: Method, split: Split, encoding: Encoding) -> Encoded:
    """Queries and gallery of a split; each distinct image is opened and encoded once.

    Raises:
        CIRError: If the split has no queries or no gallery.
    """
    return next(encode_splits(method, [split], encoding))


def encode_splits(method: Method, splits: Sequence[Split], encoding: Encoding) -> Iterator[Encoded]:
    """Queries and gallery of each split; what several have in common is encoded once.

    The embeddings are those of each split alone, to the bit.

    Raises:
        CIRError: If a split has no queries or no gallery.
    """
    for split in splits:
        if not split.queries or not split.gallery:
            what = "gallery" if split.queries else "queries"
            raise CIRError(f"split '{split.name}' has no {what}")
    at: dict[Path, int] = {}
    galleries = [
        [at.setdefault(split.paths[name], len(at)) for name in split.gallery] for split in splits
    ]
    candidates = len(at)
    pairs: dict[tuple[int, str], int] = {}
    rows: list[list[int]] = []
    for split in splits:
        references = [at.setdefault(split.paths[q.reference], len(at)) for q in split.queries]
        texts = [query_text(method, query, split.captions) for query in split.queries]
        rows.append(
            [pairs.setdefault(pair, len(pairs)) for pair in zip(references, texts, strict=True)]
        )
    encoding = replace(encoding, fixed=True)
    queries, targets = embed_fixed(
        method,
        feature_batches(method.backbone, list(at), encoding, splits[0].name),
        encoding,
        gallery=candidates,
        references=[position for position, _ in pairs],
        texts=[text for _, text in pairs],
    )
    for split, of_queries, gallery in zip(splits, rows, galleries, strict=True):
        yield Encoded(split, _rows(queries, of_queries), _rows(targets, gallery))


def _rows(vectors: Tensor, index: Sequence[int]) -> Tensor:
    """Vectors at the index; the tensor itself where these are all of them, in order."""
    if list(index) == list(range(len(vectors))):
        return vectors
    return vectors[torch.tensor(index, device=vectors.device)]


def score_blocks(method: Method, encoded: Encoded) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of (rows, scores (q, N)); a removed reference scores -inf.

    One block of the score matrix is held at a time.
    """
    split = encoded.split
    reference = split.arrays.reference.to(encoded.queries.device)
    step = rows_per_block(len(encoded.targets), encoded.queries.device)
    for first in range(0, len(encoded.queries), step):
        rows = slice(first, min(first + step, len(encoded.queries)))
        scores = score(encoded.queries[rows], encoded.targets, method.similarity)
        if split.drop_reference:
            column = reference[rows]
            (row,) = torch.nonzero(column < scores.shape[1], as_tuple=True)
            scores[row, column[row]] = -torch.inf
        yield rows, scores
        del scores  # the next block uses the same memory and processor caches


def evaluate(method: Method, split: Split, encoding: Encoding) -> SplitResult:
    """The split's measures for a method.

    Raises:
        CIRError: If no query has a target (a blind test split).
    """
    return next(evaluate_splits(method, [split], encoding))


def evaluate_splits(
    method: Method, splits: Sequence[Split], encoding: Encoding
) -> Iterator[SplitResult]:
    """Measures of each split, of images and queries that are encoded once for all of them.

    Raises:
        CIRError: If no query of a split has a target (a blind test split).
    """
    for split in splits:
        if split.queries and all(query.target is None for query in split.queries):
            raise CIRError(
                f"split '{split.name}' is blind: its targets are not public. Write a submission "
                "instead"
            )
    for encoded in encode_splits(method, splits, encoding):
        yield evaluate_encoded(method, encoded)


def evaluate_encoded(method: Method, encoded: Encoded) -> SplitResult:
    """The measures of an encoded split."""
    split, arrays = encoded.split, encoded.split.arrays
    positives = arrays.positives.to(encoded.queries.device)
    ranks, subset = [], []
    for rows, scores in score_blocks(method, encoded):
        ranks.append(positive_ranks(scores, positives[rows]).cpu())
        if arrays.group is not None:
            subset.append(_subset_ranks(scores, arrays, rows).cpu())
        del scores
    labelled = ~arrays.blind
    all_ranks = torch.cat(ranks)[labelled]
    subset_ranks = torch.cat(subset)[labelled] if subset else None
    values = {
        name: per_query(name, all_ranks, subset_ranks, arrays.counts[labelled])
        for name in split.measures
    }
    removed = (arrays.reference == arrays.target) & labelled & split.drop_reference
    return SplitResult(
        split.name,
        measures={name: float(value.mean()) for name, value in values.items()},
        values=values,
        queries=int(labelled.sum()),
        gallery=len(split.gallery),
        blind=int(arrays.blind.sum()),
        unreachable=int(removed.sum()),
        left_out=split.absent,
        positives_across=positives_across(split.queries),
        faults=faults(
            suppression(all_ranks),
            confusion(encoded.queries, encoded.targets, arrays, method.similarity),
        ),
    )


def _subset_ranks(scores: Tensor, arrays: SplitArrays, rows: slice) -> Tensor:
    """Rank (q,) of the target within its query's group, the reference left out."""
    if arrays.group is None:
        raise ValueError("the split has no groups")
    group = arrays.group[rows]
    inside = (group >= 0) & (group != arrays.reference[rows, None])
    is_target = inside & (group == arrays.target[rows, None])
    column = torch.where(is_target.any(dim=1), is_target.int().argmax(dim=1), -1)
    group, inside = group.to(scores.device), inside.to(scores.device)
    members = scores.gather(1, group.clamp(min=0)).masked_fill(~inside, -torch.inf)
    return positive_ranks(members, column[:, None].to(scores.device))[:, 0]


def rankings(
    method: Method,
    encoded: Encoded,
    k: int,
    rows: Sequence[int] | None = None,
    *,
    groups: bool = False,
) -> list[list[str]]:
    """Image ids of the first k of each query's ranking, of some rows or all, in order.

    A removed reference is not ranked. With ``groups`` the members of the query's group that are
    not among the first k follow, in the order in which they rank.
    """
    gallery, group = encoded.split.gallery, encoded.split.arrays.group
    queries = range(len(encoded.queries)) if rows is None else rows
    images: dict[int, list[str]] = {}
    for block, scores in score_blocks(method, encoded):
        local = sorted(set(queries) & set(range(block.start, block.stop)))
        best, order = top_k(scores[[row - block.start for row in local]], k)
        for row, columns, values in zip(local, order.tolist(), best.tolist(), strict=True):
            if groups and group is not None:
                members = set(group[row].tolist())
                rest = torch.tensor(sorted(members - {-1, *columns}), dtype=torch.int64)
                more, ranking = top_k(scores[row - block.start, rest][None], len(rest))
                columns += rest[ranking[0].cpu()].tolist()
                values += more[0].tolist()
            pairs = zip(columns, values, strict=True)
            images[row] = [gallery[column] for column, value in pairs if value > -torch.inf]
    return [images[row] for row in queries]


def average(results: Sequence[SplitResult]) -> dict[str, float]:
    """Mean of each measure over the splits, those that all splits have."""
    common = [
        name for name in results[0].measures if all(name in result.measures for result in results)
    ]
    return {name: sum(r.measures[name] for r in results) / len(results) for name in common}


def average_faults(results: Sequence[SplitResult]) -> dict[str, dict[str, float]]:
    """Each fault's numbers over the splits that have it: means, and sums of counts."""
    document: dict[str, dict[str, float]] = {}
    for name in ("suppression", "confusion"):
        found = [result.faults[name] for result in results if name in result.faults]
        if found:
            document[name] = {
                key: sum(each[key] for each in found) / (1 if key in COUNTS else len(found))
                for key in found[0]
            }
    return document


def report(dataset: str, protocol: str, results: Sequence[SplitResult]) -> dict[str, Any]:
    """The JSON object of an evaluation.

    Where images are missing, ``left_out`` has counts for each split and in total, and the
    protocol's name is marked. ``faults``, ``blind``, ``unreachable`` and ``positives_across`` are
    there where such queries and positives are.
    """
    document: dict[str, Any] = {
        "dataset": dataset,
        "protocol": protocol_label(protocol, [result.left_out for result in results]),
        "splits": {result.split: dict(result.measures) for result in results},
        "average": average(results),
        "queries": sum(result.queries for result in results),
        "gallery": sum(result.gallery for result in results),
    }
    if found := average_faults(results):
        document["faults"] = found
    return {**document, **exclusions(results)}


def protocol_label(protocol: str, absent: Sequence[Mapping[str, int]]) -> str:
    """The protocol's name, marked where a split lacks something because images are missing."""
    return f"{protocol or 'default'} {INCOMPLETE}" if any(absent) else protocol


def exclusions(results: Sequence[SplitResult]) -> dict[str, Any]:
    """What the measures are not about, where there is such: the last members of ``report``."""
    absent = left_out({result.split: result.left_out for result in results})
    document: dict[str, Any] = {"left_out": absent} if absent else {}
    for key in ("blind", "unreachable", "positives_across"):
        count = sum(getattr(result, key) for result in results)
        if count:
            document[key] = count
    return document


def main_value(measures: Mapping[str, float], main: Sequence[str]) -> float:
    """The protocol's one number: the mean of its main measures."""
    return sum(measures[name] for name in main) / len(main)
