"""Mining against the bare matrix product it cannot do without, and against another library.

Prints one JSON line per case: median seconds of alternating runs in one process, and the ratio to
the bare product by blocks of the same size (with the maximum over tokens where there are several).
A case: scores of all queries, the sampler's zone, K negatives drawn per query.
"""

from __future__ import annotations

import argparse
import json
from statistics import median
from typing import Any

import torch
from clock import peak_mib, seconds
from torch import Tensor

from cir_plugins.bench.environment import hardware
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.pools import mine_embeddings, rows_per_block, score
from dqe_plugin.sampler import TargetRelative

ZONES = {"0 to 0.3": (0.0, 0.3), "0.05 to 0.5": (0.05, 0.5)}


def made_up(
    queries: int, candidates: int, width: int, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries near their targets, as after some training; targets; target columns."""
    chance = torch.Generator().manual_seed(0)
    shape = (candidates, tokens, width) if tokens > 1 else (candidates, width)
    targets = unit(torch.randn(shape, generator=chance))
    target = torch.randint(0, candidates, (queries,), generator=chance)
    near = targets[target] if tokens == 1 else targets[target, 0]
    noise = torch.randn(queries, width, generator=chance) / width**0.5
    return unit(near + 2 * noise), targets, target


def bare(queries: Tensor, targets: Tensor) -> None:
    """The scores alone, by the blocks that mining takes."""
    step = rows_per_block(len(targets), queries.device)
    for first in range(0, len(queries), step):
        score(queries[first : first + step], targets, best_token)


def measure(options: argparse.Namespace, tokens: int, zone: str) -> dict[str, Any]:
    """One case's line."""
    device = torch.device(options.device)
    count = options.queries if tokens == 1 else max(1, options.queries // 10)
    queries, targets, target = made_up(count, options.candidates, options.width, tokens)
    queries, targets = queries.to(device), targets.to(device)
    lower, upper = ZONES[zone]
    sampler = TargetRelative(lower=lower, upper=upper)

    def mine() -> None:
        mine_embeddings(
            *(queries, targets, target, sampler), count=options.drawn, seed=0, similarity=best_token
        )

    bare(queries[:64], targets)  # warm, so that what follows is the mining's own memory
    before = peak_mib()
    times: dict[str, list[float]] = {"bare": [], "mine": []}
    for _ in range(options.runs):
        times["bare"].append(seconds(lambda: bare(queries, targets), device))
        times["mine"].append(seconds(mine, device))
    medians = {name: round(median(values), 4) for name, values in times.items()}
    return {
        "case": "mining",
        "queries": count,
        "candidates": options.candidates,
        "width": options.width,
        "tokens": tokens,
        "zone": zone,
        "drawn": options.drawn,
        "seconds": medians,
        "ratio_to_bare": round(medians["mine"] / medians["bare"], 2),
        "extra_mib": round(peak_mib() - before, 1),
        "runs": options.runs,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000, help="a tenth with several tokens")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--drawn", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for tokens in options.tokens:
        for zone in ZONES:
            print(json.dumps(measure(options, tokens, zone)), flush=True)


if __name__ == "__main__":
    main()
