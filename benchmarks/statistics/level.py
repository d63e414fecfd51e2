"""Whether intervals and p-values hold their level where there is no difference between methods.

Two methods of the same quality answer the same queries, which differ in how hard they are. A
difference is claimed where the 95 % interval is without 0, or the p-value is 5 % or less. Of
``--simulations`` such comparisons 5 % may claim one, within the noise of a binomial count.

    python benchmarks/statistics/level.py --simulations 2000

Prints one JSON line for each kind of value: the shares, and the bounds that 99 % of correct
procedures keep.
"""

from __future__ import annotations

import argparse
import json
import sys
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from cir_plugins.bench.statistics import paired_interval, randomisation_p_value

LEVEL = 0.05
WIDE = 2.576  # standard deviations that hold 99 % of a normal distribution
KINDS = ("recall", "average precision")


def values(
    kind: str, queries: int, difference: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values (Q,) of two methods on the same queries: 0 or 1 of a recall, else fractions.

    Args:
        kind: One of ``KINDS``.
        queries: Number of queries, Q.
        difference: What the first is better by, on average; 0 for a null.
        rng: Source of the draws.
    """
    ease = rng.beta(1.0, 1.0, queries)  # of a query, the same for both
    pair = []
    for shift in (difference, 0.0):
        quality = np.clip(ease + shift, 0.0, 1.0)
        if kind == "recall":
            pair.append((rng.random(queries) < quality).astype(np.float64))
        else:
            pair.append(np.clip(quality + rng.normal(0.0, 0.2, queries), 0.0, 1.0))
    return pair[0], pair[1]


def rejections(
    *,
    simulations: int,
    queries: int,
    draws: int,
    seed: int,
    difference: float = 0.0,
    kind: str = KINDS[0],
) -> dict[str, float]:
    """Shares of the comparisons in which interval and test claim a difference.

    Args:
        simulations: Number of comparisons.
        queries: Queries in each of two splits of a comparison.
        draws: Resamples, and random signs.
        seed: Seed of everything.
        difference: As in ``values``.
        kind: As in ``values``.
    """
    rng = np.random.default_rng(seed)
    counts = {"interval": 0, "p-value": 0}
    for number in range(simulations):
        pairs = {split: values(kind, queries, difference, rng) for split in ("a", "b")}
        first = {split: pair[0] for split, pair in pairs.items()}
        second = {split: pair[1] for split, pair in pairs.items()}
        interval = paired_interval(first, second, resamples=draws, seed=number)
        counts["interval"] += interval.low > 0 or interval.high < 0
        p_value = randomisation_p_value(first, second, draws=draws, seed=number)
        counts["p-value"] += p_value <= LEVEL
    return {name: count / simulations for name, count in counts.items()}


def main() -> int:
    """Exit code: 1 where a share is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    noise = WIDE * sqrt(LEVEL * (1 - LEVEL) / options.simulations)
    low, high = LEVEL - noise, LEVEL + noise
    held = True
    for kind in KINDS:
        shares = rejections(
            simulations=options.simulations,
            queries=options.queries,
            draws=options.draws,
            seed=options.seed,
            kind=kind,
        )
        within = all(low <= share <= high for share in shares.values())
        held = held and within
        line = {"kind": kind, **vars(options), **shares, "bounds": [low, high], "held": within}
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
    return int(not held)


if __name__ == "__main__":
    raise SystemExit(main())
