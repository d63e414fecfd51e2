"""Seeds with and without the sampler, and a task whose false negatives are known."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# 97.5 % quantiles of t, by the number of seeds
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}

Train = Callable[[str, int, bool], float]


def arguments() -> argparse.ArgumentParser:
    """The options that every example has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a moment of training, to see it run; too short to compare",
    )
    return parser


def compare(
    measure: str, train: Train, ways: Sequence[str], options: argparse.Namespace | None = None
) -> None:
    """Print each way's mean and its paired differences from the first two, with 95 % intervals.

    The bounds in the examples were chosen on seeds from 10 on; what is reported are the seeds 0, 1
    and 2, other data and other weights.

    Args:
        measure: What the numbers are.
        train: ``(way, seed, quick) -> number``; quick: as little as shows that it runs.
        ways: No mining, hard mining, then the sampler.
        options: Of the command line, where it has more than ``arguments``.
    """
    options = options or arguments().parse_args()
    seeds = options.seeds
    results = {}
    for way in ways:
        results[way] = torch.tensor([train(way, seed, options.quick) for seed in seeds])
    print(f"{measure}, seeds {', '.join(map(str, seeds))}")
    for way, values in results.items():
        others = ways[: min(2, ways.index(way))]
        against = [f"{difference(values, results[other])} ({other})" for other in others]
        print("  ".join([f"  {way:20} {float(values.mean()):.3f}", *against]))
    if options.quick:
        print("--quick trains for a moment to show that the example runs: too short to compare")


def difference(values: Tensor, others: Tensor) -> str:
    """Mean of the paired differences and half of its 95 % interval, for up to 8 seeds."""
    gain = values - others
    if len(gain) not in STUDENT:
        return f"{float(gain.mean()):+.3f}"
    half = STUDENT[len(gain)] * float(gain.std()) / len(gain) ** 0.5
    return f"{float(gain.mean()):+.3f} ± {half:.3f}"


def concepts(
    seed: int,
    *,
    split: int,
    families: int = 40,
    kinds: int = 5,
    copies: int = 4,
    noise: float = 0.5,
    size: int = 32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, items (families * kinds * copies, 2 * size), each one's concept; split 0 trains.

    The concepts of a family differ in half of the dimensions, and there by little: a model that
    separates them has learned from siblings. The copies of a concept are all right, but only one of
    them is marked: the others are the false negatives. Half of the input is noise.
    """
    shared = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(2 * size, 2 * size, generator=shared)).Q
    rng = torch.Generator().manual_seed(1000 * seed + split + 1)
    half, number = size // 2, families * kinds
    family = F.normalize(torch.randn(families, half, generator=rng), dim=1)
    detail = F.normalize(torch.randn(number, half, generator=rng), dim=1)
    meaning = torch.cat([family.repeat_interleave(kinds, dim=0), 0.3 * detail], dim=1)
    spread = torch.cat([torch.ones(half), torch.full((half,), 0.3)]) * noise / size**0.5
    concept = torch.arange(number).repeat_interleave(copies)

    def views() -> Tensor:
        noisy = meaning[concept] + spread * torch.randn(len(concept), size, generator=rng)
        idle = torch.randn(len(concept), size, generator=rng) / size**0.5
        turned: Tensor = torch.cat([noisy, idle], dim=1) @ turn
        return turned

    return views(), views(), concept


def network(seed: int, size: int = 64, out: int = 32) -> torch.nn.Sequential:
    """A small encoder with weights drawn from the seed."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(size, 128), torch.nn.ReLU(), torch.nn.Linear(128, out)
    )


@torch.no_grad()
def precision(queries: Tensor, items: Tensor, query_meaning: Tensor, item_meaning: Tensor) -> float:
    """Mean R-precision: of as many items as are right, the share that is right; 0 to 1.

    Args:
        queries: (Q, D).
        items: (N, D).
        query_meaning: (Q,) of each query.
        item_meaning: (N,) of each item; equal to the query's is right.
    """
    scores = F.normalize(queries, dim=1) @ F.normalize(items, dim=1).T
    hits = item_meaning[scores.argsort(dim=1, descending=True)] == query_meaning[:, None]
    right = hits.sum(dim=1)
    first = torch.arange(len(items))[None, :] < right[:, None]
    return float(((hits & first).sum(dim=1) / right).mean())
