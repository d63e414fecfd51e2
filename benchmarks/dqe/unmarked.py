r"""How well scores find the positives that nobody marked, among a run's training queries.

    python benchmarks/dqe/unmarked.py RUNS/contrastive-seed0 --json FILE

Prints a JSON line for each run, over the queries of its training split that have positives beside
the annotated target:

- ``average_precision``: of a ranking of the training images by the scores of ``mining.scored_by``,
  the annotated target left out, with the unmarked positives as what is right; also of ``queries``
  where one query of each target is left to agree, as in data that has no more;
- ``ambiguous``: of what ``target_relative`` marks by those scores with some bounds, the mean number
  (``mean``), the share that are unmarked positives (``unmarked``), and the share of all unmarked
  positives that are among them (``covered``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from lines import lines_of_runs
from torch import Tensor

import cir_plugins as cir
from cir_plugins.mining import agreement_of_queries
from cir_plugins.mining.scored_by import ScoredBy, scores_of
from cir_plugins.retrieval.evaluate import encode_split
from cir_plugins.retrieval.metrics import average_precision_at, positive_ranks
from dqe_plugin.sampler import TargetRelative

# Distances from the target's own score, which is 1 for `target` and `queries`.
BOUNDS = {
    "query": [("quantile", 0.0), ("quantile", 0.01), ("quantile", 0.02)],
    "target": [("quantile", 0.01), ("quantile", 0.02), ("quantile", 0.03)],
    "queries": [("absolute", 0.05), ("absolute", 0.1), ("absolute", 0.15), ("absolute", 0.2)],
}


def average_precision(scores: Tensor, right: Tensor) -> float:
    """Mean over the rows (Q, N) that have anything right."""
    rows = right.any(dim=1)
    counts = right[rows].sum(dim=1)
    columns = torch.nn.utils.rnn.pad_sequence(
        [row.nonzero()[:, 0] for row in right[rows]], batch_first=True, padding_value=-1
    )
    ranks = positive_ranks(scores[rows], columns)
    return float(average_precision_at(ranks, counts, scores.shape[1]).mean())


def one_query_each(target: Tensor) -> Tensor:
    """The targets (Q,), -1 for all but one query of each, drawn."""
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    chosen = torch.full((int(target.max()) + 1,), -1)
    chosen[target[order]] = order  # the last one of each
    return torch.where(chosen[target] == torch.arange(len(target)), target, -1)


def described(run: Path) -> dict[str, Any]:
    """The numbers of a run."""
    retriever = cir.load(run, progress=False)
    opened = retriever.open_data(split="train", progress=False)
    (split,) = opened.splits
    encoded = encode_split(opened.method, split, opened.encoding)
    column = {image: number for number, image in enumerate(split.gallery)}
    target = torch.tensor([column[query.target or ""] for query in split.queries])
    unmarked = torch.zeros(len(target), len(column), dtype=torch.bool)
    for row, query in enumerate(split.queries):
        unmarked[row, [column[image] for image in query.positives if image in column]] = True
    unmarked.scatter_(1, target[:, None], False)
    found: dict[str, Any] = {}
    rows, similarity = slice(0, len(target)), opened.method.similarity
    scores_by = {
        by: scores_of(by, encoded.queries, encoded.targets, target, similarity)(rows)
        for by in get_args(ScoredBy)
    }
    alone = agreement_of_queries(encoded.queries, one_query_each(target), len(column))(rows)
    scores_by["queries, one of each target"] = alone.scatter(1, target[:, None], 1.0)
    for by, scores in scores_by.items():
        ranked = scores.scatter(1, target[:, None], -torch.inf)
        marked = {f"{unit} {lower}": _marked(scores, target, unmarked, unit, lower)
                  for unit, lower in BOUNDS[by.partition(",")[0]]}  # fmt: skip
        found[by] = {"average_precision": average_precision(ranked, unmarked), "ambiguous": marked}
    return {
        "run": run.name,
        "data": retriever.plan.root.name,
        "images": len(column),
        "unmarked_positives": float(unmarked.sum(dim=1).double().mean()),
        "scored_by": found,
    }


def _marked(
    scores: Tensor, target: Tensor, unmarked: Tensor, unit: Any, lower: float
) -> dict[str, float]:
    upper = 1.0 if unit == "quantile" else 2.0
    sampler = TargetRelative(unit=unit, lower=lower, upper=upper)
    ambiguous = sampler.ambiguous(scores, target, torch.zeros_like(unmarked))
    right = float((ambiguous & unmarked).sum())
    return {
        "mean": float(ambiguous.sum(dim=1).double().mean()),
        "unmarked": right / max(1, int(ambiguous.sum())),
        "covered": right / max(1, int(unmarked.sum())),
    }


if __name__ == "__main__":
    lines_of_runs(__doc__, described)
