"""Evaluation by blocks against a sort of everything, and against the bare matrix product.

Prints one JSON line per case: median seconds of alternating runs in one process, and the peak
memory of each contender beyond its inputs in a process of its own. All start from embeddings:

* ``streamed``: ``evaluate_encoded``, which is what ``cir eval`` does once images are encoded.
* ``sort``: as the field's official repositories: distances of all queries and images, their
  argsort, the names of the images in that order, compared with the positive's name repeated for
  each of them (further positives of a query are not repeated, which is kinder).
* ``bare``: the scores alone, by the same blocks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from clock import alternated, extra_mib, in_own_process
from mining import bare, made_up
from torch import Tensor

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.data.split import Query, Split
from cir_plugins.method import Components, Method
from cir_plugins.retrieval.evaluate import Encoded, evaluate_encoded

CUTS = (1, 10, 50)
MEASURES = tuple(f"any_recall@{k}" for k in CUTS)


class Embedded(Method):
    """A method that has scores and nothing else."""

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Scores (B, C)."""
        return best_token(query, target)


def made_up_split(case: str, width: int, device: torch.device) -> Encoded:
    """Embeddings of a split of so many queries and images in which each has so many positives."""
    queries, gallery, positives = map(int, case.split("x"))
    vectors, targets, target = made_up(queries, gallery, width, 1)
    rng = torch.Generator().manual_seed(1)
    # Farther from their targets than where mining starts, or all would rank first at once.
    vectors = unit(vectors + 2 * torch.randn(queries, width, generator=rng) / width**0.5)
    names = tuple(f"B{number:09d}" for number in range(gallery))  # as long as FashionIQ's
    others = torch.randint(1, gallery, (queries, positives - 1), generator=rng)
    columns = torch.cat([target[:, None], (target[:, None] + others) % gallery], dim=1)
    rows = [tuple(dict.fromkeys(names[column] for column in row)) for row in columns.tolist()]
    table = tuple(
        Query(str(number), names[0], ("",), "", right[0], right)
        for number, right in enumerate(rows)
    )
    split = Split("made up", "val", table, names, {}, measures=MEASURES)
    return Encoded(split, vectors.to(device), targets.to(device))


def streamed(encoded: Encoded) -> list[float]:
    """Recall at each cut as this project finds it."""
    method = Embedded(Components(None, None, None))
    return list(evaluate_encoded(method, encoded).measures.values())


def full_sort(encoded: Encoded) -> list[float]:
    """Recall at each cut from a sort of everything and a comparison of names."""
    distances = 1 - encoded.queries @ encoded.targets.T
    order = torch.argsort(distances, dim=-1).cpu()
    names = np.array(encoded.split.gallery)[order.numpy()]
    positives = [query.positives for query in encoded.split.queries]
    firsts = np.array([row[0] for row in positives])
    right = names == np.repeat(firsts, names.shape[1]).reshape(names.shape)
    for number in range(1, max(len(row) for row in positives)):
        # For a query with fewer positives its last one again.
        right |= names == np.array([row[min(number, len(row) - 1)] for row in positives])[:, None]
    hits = torch.tensor(right)
    return [float(hits[:, :k].any(dim=1).double().mean()) for k in CUTS]


def contenders(encoded: Encoded) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    return {
        "bare": lambda: bare(encoded.queries, encoded.targets),
        "streamed": lambda: streamed(encoded),
        "sort": lambda: full_sort(encoded),
    }


def memory(name: str, encoded: Encoded, device: torch.device) -> float:
    """Peak memory of a contender in MiB, after a small product that loads what that needs."""
    bare(encoded.queries[:64], encoded.targets)
    return round(extra_mib(contenders(encoded)[name], device), 1)


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case's line."""
    device = torch.device(options.device)
    encoded = made_up_split(case, options.width, device)
    recalls = streamed(encoded), full_sort(encoded)
    # Blocks of another size may round a score otherwise, and so swap two that are nearly equal.
    if not np.allclose(*recalls, rtol=0, atol=1e-3):
        raise SystemExit(f"the contenders disagree: {recalls}")
    works = contenders(encoded)
    times = alternated(works, options.runs, device)
    shared = ["--width", str(options.width), "--device", options.device, "--cases", case]
    queries, gallery, positives = map(int, case.split("x"))
    return {
        "case": "evaluation",
        "queries": queries,
        "gallery": gallery,
        "positives": positives,
        "width": options.width,
        "seconds": {name: round(value, 4) for name, value in times.items()},
        "streamed_to_bare": round(times["streamed"] / times["bare"], 2),
        "sort_to_streamed": round(times["sort"] / times["streamed"], 1),
        "sort_to_bare": round(times["sort"] / times["bare"], 1),
        "extra_mib": {
            name: in_own_process(__file__, [*shared, "--contender", name]) for name in works
        },
        "recalls": dict(zip(MEASURES, (round(value, 4) for value in recalls[0]), strict=True)),
        "runs": options.runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    cases = ["6000x15000x1", "6000x15000x8", "6000x6000x1"]
    parser.add_argument("--cases", nargs="+", default=cases, help="queries x gallery x positives")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--contender", help="print nothing but its peak memory in MiB")
    options = parser.parse_args()
    device = torch.device(options.device)
    for case in options.cases:
        result: Any
        if options.contender:
            result = memory(options.contender, made_up_split(case, options.width, device), device)
        else:
            result = measure(case, options)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
