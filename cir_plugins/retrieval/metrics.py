"""Measures of a ranking, from the ranks of each query's positives.

Ranks are int64 and count from 1; 0 stands for no such image, or one that is not ranked.
Every measure gives one fraction per query, float64, so that callers average or resample them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.retrieval.ranking import ranks_of

KINDS = ("recall", "any_recall", "map", "subset_recall")


class Measure(NamedTuple):
    """A kind of measure and its cut-off."""

    kind: str
    k: int


def parse_measure(name: str) -> Measure:
    """The kind and cut-off of a measure's name, such as ``any_recall@10``.

    Raises:
        CIRError: The name is not one of the kinds with a positive whole cut-off.
    """
    kind, at, cut = name.partition("@")
    if kind not in KINDS or not at or not (cut.isascii() and cut.isdigit()) or int(cut) < 1:
        accepted = ", ".join(f"{kind}@k" for kind in KINDS)
        raise CIRError(
            f"unknown measure '{name}'\naccepted: {accepted} with k from 1, as recall@10"
        )
    return Measure(kind, int(cut))


def positive_ranks(scores: Tensor, positives: Tensor) -> Tensor:
    """Rank of every positive in its query's ranking, (q, A) int64; 0 for padding.

    Of equal scores the lower gallery index comes first. A score of -inf stands for an image that
    left the ranking (a removed reference): it comes after everything else, and as a positive it
    has no rank (0). Nothing is sorted; the memory needed is that of a slice of the scores that
    fits a cache, on a GPU that of two bool (q, N).

    Args:
        scores: (q, N), higher is closer.
        positives: (q, A) gallery indices, -1 where a query has fewer.

    Raises:
        CIRError: A score is not a number.
        ValueError: Shapes do not fit, or an index is not in the gallery.
    """
    if scores.ndim != 2 or positives.ndim != 2 or len(scores) != len(positives):
        shapes = f"{tuple(scores.shape)} and {tuple(positives.shape)}"
        raise ValueError(f"scores must be (q, N) and positives (q, A), got {shapes}")
    N = scores.shape[1]
    if positives.numel() and not -1 <= int(positives.min()) <= int(positives.max()) < N:
        raise ValueError(f"positives must be from -1 to {N - 1}")
    ranks, broken = ranks_of(scores, positives)
    if bool(broken.any()):
        raise CIRError(
            f"{int(broken.sum())} of {len(scores)} queries have scores that are not numbers (NaN); "
            "the weights have diverged or an input is broken"
        )
    if not N:
        return ranks
    scores_of = scores.gather(1, positives.clamp(min=0))
    return ranks.masked_fill((positives < 0) | (scores_of == -torch.inf), 0)


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """Whether the target, ranks (Q,), is among the first k: 1 or 0 per query."""
    return ((ranks > 0) & (ranks <= k)).to(torch.float64)


def any_recall_at(ranks: Tensor, k: int) -> Tensor:
    """Whether any positive, ranks (Q, A), is among the first k: 1 or 0 per query."""
    return ((ranks > 0) & (ranks <= k)).any(dim=1).to(torch.float64)


def subset_recall_at(ranks: Tensor, k: int) -> Tensor:
    """Whether the target is among the first k of its group; ranks (Q,) within the group.

    Source: Liu et al., 2021, arXiv 2108.04024, section 5.
    """
    return recall_at(ranks, k)


def average_precision_at(ranks: Tensor, counts: Tensor, k: int) -> Tensor:
    """Average precision of the first k, (Q,): the precisions at the hits over min(positives, k).

    Args:
        ranks: (Q, A), in any order.
        counts: (Q,) positives of each query, at least 1.
        k: Cut-off.

    Raises:
        ValueError: A query has no positives.

    Source: Baldrati et al., 2023, arXiv 2303.15247, equation for mAP@K.
    """
    if bool((counts < 1).any()):
        raise ValueError("average precision needs at least one positive per query")
    beyond = torch.iinfo(torch.int64).max
    ordered = ranks.masked_fill(ranks <= 0, beyond).sort(dim=1).values
    hits = torch.arange(1, ranks.shape[1] + 1, device=ranks.device, dtype=torch.float64)
    precision = (hits / ordered).masked_fill(ordered > k, 0.0)
    return precision.sum(dim=1) / counts.clamp(max=k)


def per_query(
    measure: str | Measure,
    ranks: Tensor,
    subset_ranks: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """Value of each query under a measure, (Q,) float64.

    Args:
        measure: A name such as ``map@5``, or what ``parse_measure`` made of it.
        ranks: (Q, A), the target in the first column.
        subset_ranks: (Q,) rank of the target within the query's group.
        counts: (Q,) positives of each query; without it those that have a rank.

    Raises:
        CIRError: The measure is unknown, or needs groups that the data does not have.
    """
    kind, k = parse_measure(measure) if isinstance(measure, str) else measure
    if kind == "recall":
        return recall_at(ranks[:, 0], k)
    if kind == "any_recall":
        return any_recall_at(ranks, k)
    if kind == "map":
        return average_precision_at(ranks, (ranks > 0).sum(1) if counts is None else counts, k)
    if subset_ranks is None:
        raise CIRError(f"subset_recall@{k} needs queries with a group, which this data has not")
    return subset_recall_at(subset_ranks, k)


def random_recall(k: int, n: int, positives: int = 1) -> float:
    """Probability that a random ranking of n images has a positive among the first k."""
    if not 1 <= positives <= n or k < 1:
        raise ValueError(f"need 1 <= positives <= n and k >= 1, got {positives=}, {n=}, {k=}")
    return 1.0 - comb(n - positives, k) / comb(n, k) if k < n else 1.0


def mean_by_name(values: Tensor, names: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean of the values (Q,) over the queries that carry each name, in alphabetical order.

    With CIRCO's aspects and ``map@10`` this is its semantic mAP@10.
    """
    if len(values) != len(names):
        raise ValueError(f"{len(values)} values for {len(names)} queries")
    rows: dict[str, list[int]] = {}
    for row, of_query in enumerate(names):
        for name in set(of_query):
            rows.setdefault(name, []).append(row)
    return {name: float(values[rows[name]].mean()) for name in sorted(rows)}
