"""Relevance suppression and semantic confusion: two faults of contrastive learning, as numbers.

Both compare what training can hardly tell apart. Suppression: images that are right and that
nobody has marked rank behind the one that is marked, as in-batch negatives push them away.
Confusion: two changes of one reference fall on queries so alike that one finds the other's target.

Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037, names the faults. Our choice: the measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cir_plugins.data.split import SplitArrays
from cir_plugins.retrieval.metrics import recall_at
from cir_plugins.retrieval.scores import Similarity, one_vector, score

K = 10
FRACTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        f"marked_recall@{K}": ("suppression", "marked_recall"),
        f"unmarked_recall@{K}": ("suppression", "unmarked_recall"),
        "own_target": ("confusion", "own_target"),
    }
)
"""What a table can show beside measures: the fault and the number in its JSON object."""


@dataclass(frozen=True)
class Suppression:
    """Ranks of the unmarked positives beside those of the annotated target.

    Over the queries with a target and at least one more positive in the gallery:

    * ``marked_recall``: mean of [rank(target) <= 10];
    * ``unmarked_recall``: mean over queries of the share of the other positives with rank <= 10;
    * ``marked_rank``, ``unmarked_rank``: mean rank of the target, and mean over queries of the mean
      rank of the others.

    Where the target is one of the right images drawn at random, a ranking that knows nothing of who
    is marked gives both the same; the difference is the suppression. Example: ranks 2 (target), 4
    and 30 give marked recall 1, unmarked recall 1/2, and ranks 2 and 17.

    Attributes:
        queries: Number of those queries.
        marked_recall: A fraction.
        unmarked_recall: A fraction.
        marked_rank: From 1.
        unmarked_rank: From 1.
    """

    queries: int
    marked_recall: float
    unmarked_recall: float
    marked_rank: float
    unmarked_rank: float


@dataclass(frozen=True)
class Confusion:
    """How pairs of queries with one reference and different changes are kept apart.

    Over all ordered pairs (i, j) of queries with the same reference whose targets are no positives
    of each other:

    * ``own_target``: mean of [s(q_i, t_i) > s(q_i, t_j)]: 1/2 is chance, 1 is without confusion;
    * ``query_similarity``: mean cosine of q_i and q_j;
    * ``target_similarity``: mean cosine of t_i and t_j, of several tokens their mean: what the
      queries' may be compared with.

    Example: s(q_1, t_1) = 0.8, s(q_1, t_2) = 0.7, s(q_2, t_2) = 0.5, s(q_2, t_1) = 0.6 give 1/2.

    Attributes:
        pairs: Number of ordered pairs.
        own_target: A fraction.
        query_similarity: A cosine.
        target_similarity: A cosine.
    """

    pairs: int
    own_target: float
    query_similarity: float
    target_similarity: float


def suppression(ranks: Tensor, k: int = K) -> Suppression | None:
    """The suppression in the ranks (Q, A) of each query's positives, the target first, 0 for none.

    None where no query has two ranked positives.
    """
    others = ranks[:, 1:]
    counted = (ranks[:, 0] > 0) & (others > 0).any(dim=1)
    if not bool(counted.any()):
        return None
    marked, others = ranks[counted, 0], others[counted]
    there = others > 0
    number = there.sum(dim=1).double()
    found = (there & (others <= k)).sum(dim=1) / number
    return Suppression(
        int(counted.sum()),
        float(recall_at(marked, k).mean()),
        float(found.mean()),
        float(marked.double().mean()),
        float((others.sum(dim=1) / number).mean()),
    )


def confusion(
    queries: Tensor, gallery: Tensor, arrays: SplitArrays, similarity: Similarity
) -> Confusion | None:
    """The confusion of a split's queries; None where no two of them are such a pair.

    Args:
        queries: (Q, D), or (Q, S, D) of several vectors per query.
        gallery: (N, D) or (N, T, D).
        arrays: References, targets and positives.
        similarity: Scores (q, N) of queries and gallery images.
    """
    queries_flat, images = (
        normalize(one_vector(each).float(), dim=-1) for each in (queries, gallery)
    )
    number, own, of_queries, of_targets = 0, 0, 0.0, 0.0
    usable = (~arrays.blind) & (arrays.target >= 0)
    for rows in _groups(arrays.reference, usable):
        target = arrays.target[rows]
        # (m, m): whether target j is a positive of query i, its own among them
        right = (arrays.positives[rows][:, :, None] == target[None, None, :]).any(dim=1)
        pairs = ~(right | right.T)
        if not bool(pairs.any()):
            continue
        pairs = pairs.to(queries.device)
        rows, target = rows.to(queries.device), target.to(queries.device)
        scores = score(queries[rows], gallery[target], similarity)
        preferred = scores.diagonal()[:, None] > scores
        number += int(pairs.sum())
        own += int(preferred[pairs].sum())
        for vectors, chosen in ((queries_flat, rows), (images, target)):
            cosines = (vectors[chosen] @ vectors[chosen].T)[pairs].double().sum()
            if vectors is queries_flat:
                of_queries += float(cosines)
            else:
                of_targets += float(cosines)
    if not number:
        return None
    return Confusion(number, own / number, of_queries / number, of_targets / number)


def faults(found: Suppression | None, confused: Confusion | None) -> dict[str, Any]:
    """The JSON object of both, ``suppression`` and ``confusion``, where there are such queries."""
    pairs = {"suppression": found, "confusion": confused}
    return {name: asdict(value) for name, value in pairs.items() if value is not None}


def measure_or_fault(report: Mapping[str, Any], name: str) -> float | None:
    """A measure's average in the report of an evaluation, or one of ``FRACTIONS``; or None."""
    if name in FRACTIONS:
        fault, number = FRACTIONS[name]
        value = report.get("faults", {}).get(fault, {}).get(number)
    else:
        value = report["average"].get(name)
    return None if value is None else float(value)


def _groups(reference: Tensor, usable: Tensor) -> list[Tensor]:
    """The queries of each reference that has two or more."""
    rows = usable.nonzero()[:, 0]
    order = rows[reference[rows].argsort(stable=True)]
    sizes = torch.unique_consecutive(reference[order], return_counts=True)[1]
    groups = torch.split(order, sizes.tolist())
    return [group for group in groups if len(group) > 1]
