"""Three seeds with and without the sampler, and a task whose false negatives are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SEEDS = (0, 1, 2)
STUDENT = 4.303  # 97.5 % quantile of t with two degrees of freedom


def compare(measure: str, train: Callable[[str, int], float], ways: tuple[str, ...]) -> None:
    """Print each way's mean, and its paired difference from the first with a 95 % interval."""
    found = {way: torch.tensor([train(way, seed) for seed in SEEDS]) for way in ways}
    print(f"{measure}, {len(SEEDS)} seeds")
    for way, values in found.items():
        gain = values - found[ways[0]]
        half = STUDENT * float(gain.std()) / len(SEEDS) ** 0.5
        change = f"{float(gain.mean()):+.3f} ± {half:.3f}" if way != ways[0] else ""
        print(f"  {way:16} {float(values.mean()):.3f}  {change}")


def concepts(
    seed: int, *, split: int, count: int = 150, copies: int = 4, size: int = 32
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, items (count * copies, size) and the concept of each, split 0 train, 1 test.

    A query is marked with one item; the other copies of its concept are right too, and unmarked:
    they are the false negatives. Half of the dimensions of what is seen say nothing.
    """
    shared = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(2 * size, 2 * size, generator=shared)).Q
    chance = torch.Generator().manual_seed(1000 * seed + split + 1)
    meaning = F.normalize(torch.randn(count, size, generator=chance), dim=1)
    concept = torch.arange(count).repeat_interleave(copies)

    def seen(noise: float) -> Tensor:
        clean = meaning[concept] + noise / size**0.5 * torch.randn(
            len(concept), size, generator=chance
        )
        idle = torch.randn(len(concept), size, generator=chance) * 2 / size**0.5
        return torch.cat([clean, idle], dim=1) @ turn

    return seen(0.7), seen(0.7), concept


def network(seed: int, size: int = 64, out: int = 32) -> torch.nn.Sequential:
    """A small encoder with weights drawn from the seed."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(size, 128), torch.nn.ReLU(), torch.nn.Linear(128, out)
    )


@torch.no_grad()
def recall(queries: Tensor, items: Tensor, asked: Tensor, concept: Tensor) -> float:
    """Share of queries whose nearest item is of the asked concept."""
    best = (F.normalize(queries, dim=1) @ F.normalize(items, dim=1).T).argmax(dim=1)
    return float((concept[best] == asked).float().mean())
