"""Measures computed the slow, plain way, by looking at every image of every ranking."""

from __future__ import annotations

from collections.abc import Sequence


def ranking(scores: Sequence[float]) -> list[int]:
    """Gallery indices, best first; equal scores in gallery order; -inf is not ranked."""
    ranked = [index for index, score in enumerate(scores) if score != float("-inf")]
    return sorted(ranked, key=lambda index: (-scores[index], index))


def ranks(scores: Sequence[float], positives: Sequence[int]) -> list[int]:
    order = ranking(scores)
    return [order.index(image) + 1 if image in order else 0 for image in positives]


def recall(scores: Sequence[float], positives: Sequence[int], k: int) -> float:
    return 1.0 if positives[0] in ranking(scores)[:k] else 0.0


def any_recall(scores: Sequence[float], positives: Sequence[int], k: int) -> float:
    return 1.0 if any(image in positives for image in ranking(scores)[:k]) else 0.0


def average_precision(scores: Sequence[float], positives: Sequence[int], k: int) -> float:
    """CIRCO's: the sum of precision times relevance over the first k, over min(positives, k)."""
    total = 0.0
    hits = 0
    for place, image in enumerate(ranking(scores)[:k], start=1):
        if image in positives:
            hits += 1
            total += hits / place
    return total / min(len(positives), k)


def subset_recall(scores: Sequence[float], target: int, group: Sequence[int], k: int) -> float:
    order = [image for image in ranking(scores) if image in group]
    return 1.0 if target in order[:k] else 0.0
