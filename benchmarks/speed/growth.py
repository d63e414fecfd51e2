"""Time and memory of mining and evaluation as the gallery grows, the queries being as many.

Prints one JSON line for each: the median seconds at N, 2N, 4N and 8N images, all in turn in one
process; the exponent e of the line seconds = c (Q N)^e through them, by least squares of the
logarithms; and the peak memory at each size beyond its inputs, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from clock import alternated, exponent, extra_mib, in_own_process
from evaluation import made_up_split, streamed
from mining import bare, made_up

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.similarity import best_token
from cir_plugins.mining import negatives_of_embeddings
from dqe_plugin.sampler import TargetRelative


def prepared(name: str, candidates: int, options: argparse.Namespace) -> Callable[[], Any]:
    """The work of one size, its inputs made."""
    device = torch.device(options.device)
    if name == "evaluation":
        case = f"{options.queries}x{candidates}x1"
        return partial(streamed, made_up_split(case, options.width, device))
    queries, gallery, target = made_up(options.queries, candidates, options.width, 1)
    return partial(
        negatives_of_embeddings,
        *(queries.to(device), gallery.to(device), target),
        sampler=TargetRelative(),
        count=8,
        similarity=best_token,
    )


def memory(name: str, candidates: int, options: argparse.Namespace) -> float:
    """Peak memory of one size in MiB, after a small product that loads what that needs."""
    work, device = prepared(name, candidates, options), torch.device(options.device)
    bare(*(vectors.to(device) for vectors in made_up(64, 64, options.width, 1)[:2]))
    return round(extra_mib(work, device), 1)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The line of mining or of evaluation."""
    sizes = [options.candidates * factor for factor in options.factors]
    works = {str(size): prepared(name, size, options) for size in sizes}
    for work in works.values():
        work()  # the first run of a size is slower
    times = alternated(works, options.runs, torch.device(options.device))
    cells = [options.queries * size for size in sizes]
    shared = ["--queries", str(options.queries), "--width", str(options.width)]
    shared += ["--device", options.device, "--works", name, "--memory-at"]
    return {
        "case": f"growth of {name}",
        "queries": options.queries,
        "candidates": sizes,
        "width": options.width,
        "seconds": [round(times[str(size)], 4) for size in sizes],
        "exponent": round(exponent(cells, [times[str(size)] for size in sizes]), 3),
        "extra_mib": [in_own_process(__file__, [*shared, str(size)]) for size in sizes],
        "runs": options.runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line for mining and one for evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--candidates", type=int, default=2_500, help="the smallest gallery")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--works", nargs="+", default=["mining", "evaluation"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-at", type=int, help="print nothing but the memory at this size")
    options = parser.parse_args()
    for name in options.works:
        if options.memory_at:
            print(json.dumps(memory(name, options.memory_at, options)), flush=True)
        else:
            print(json.dumps(measure(name, options)), flush=True)


if __name__ == "__main__":
    main()
