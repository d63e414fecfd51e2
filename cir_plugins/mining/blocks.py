"""Scores, sampler and exclusions, a block of queries at a time. Imports torch alone.

A block holds as many queries as keep it near the processor's caches: memory grows neither with
the number of queries nor with that of candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cir_plugins.mining.relevance import (
    Relevance,
    RelevanceOf,
    padding,
    relevance_of_positives,
    require_positives,
)
from cir_plugins.retrieval.scores import rows_per_block
from cir_plugins.types import SamplerWithAmbiguity, SamplerWithFallback, SamplerWithWeights

# The sampler sees slices of a block, which stay in the processor's caches from one operation to
# the next.
SLICE_CELLS = 1_300_000


class Block(NamedTuple):
    """Negatives that a sampler leaves to a block of queries.

    Attributes:
        rows: Which queries.
        scores: (q, N), or None where nothing was scored.
        relevance: Targets, and in ``excluded`` all that may not be drawn, targets included.
        mask: (q, N) bool, the negatives.
        fallback: (q,) bool, queries whose negatives come from outside the sampler's rule; None for
            a sampler that does not mark them.
        weights: (q, N) float that negatives are drawn with; None for equal ones.
    """

    rows: slice
    scores: Tensor | None
    relevance: Relevance
    mask: Tensor
    fallback: Tensor | None
    weights: Tensor | None = None


def blocks(
    scores: Callable[[slice], Tensor] | None,
    relevance: RelevanceOf,
    sampler: Any,
    *,
    rows: range,
    candidates: int,
    device: torch.device,
    size: int | None = None,
) -> Iterator[Block]:
    """Blocks of queries with their negatives, in order; a target or an exclusion is never one.

    Args:
        scores: Scores (q, N) of some queries; None for everything that is not excluded.
        relevance: Targets and exclusions of some queries and their scores.
        sampler: A ``cir_plugins.types.Sampler``.
        rows: Which queries.
        candidates: Number of candidates (N).
        device: Where the scores are.
        size: Queries in a block; as many as suit the device if left out.

    Raises:
        ValueError: If there is no candidate, or the sampler's result is no mask of the scores.
    """
    step = rows_per_block(candidates, device) if size is None else size
    for first in range(rows.start, rows.stop, step):
        some = slice(first, min(first + step, rows.stop))
        block = None if scores is None else scores(some)
        labels = relevance(some, block)
        target, excluded = labels.target[:, None], labels.excluded
        # A sampler sees the target as it is.
        target_excluded = excluded.gather(1, target) if labels.present is not None else None
        excluded.scatter_(1, target, False)
        fallback = weights = None
        if block is None:
            mask = ~excluded
        else:
            mask, fallback = sample(sampler, block, labels.target, excluded)
            weights = _weights(sampler, block, labels.target, excluded)
            if labels.pairs is None:
                mask &= ~excluded
            else:
                mask[labels.pairs] = False
        mask.scatter_(1, target, False)
        if labels.present is None or target_excluded is None:
            excluded.scatter_(1, target, True)
        else:
            excluded.scatter_(1, target, target_excluded | labels.present[:, None])
            mask[(~labels.present).nonzero()[:, 0]] = False
            fallback = None if fallback is None else fallback & labels.present
        yield Block(some, block, labels, mask, fallback, weights)


def blocks_of_scores(
    scores: Tensor,
    positives: Tensor,
    sampler: Any,
    *,
    excluded: Tensor | None = None,
    first_row: int = 0,
) -> Iterator[Block]:
    """Blocks of rows with their negatives; arguments as for ``negatives_of_scores``."""
    require_positives(scores, positives, [] if excluded is None else [excluded])
    scores = scores.detach()

    def relevance(rows: slice, block: Tensor | None) -> Relevance:
        assert block is not None
        masks = [] if excluded is None else [excluded[rows]]
        absent = padding(block)
        masks += [absent] if bool(absent.any()) else []
        return relevance_of_positives(block, positives[rows], masks, first_row + rows.start)

    return blocks(
        lambda rows: scores[rows],
        relevance,
        sampler,
        rows=range(len(scores)),
        candidates=scores.shape[1],
        device=scores.device,
    )


def ambiguous(sampler: SamplerWithAmbiguity, block: Block) -> Tensor:
    """Candidates (q, N) bool of a scored block that the sampler finds ambiguous.

    Raises:
        ValueError: If the sampler's result is no mask of the scores.
    """
    assert block.scores is not None
    target, excluded = block.relevance.target, block.relevance.excluded
    result = sampler.ambiguous(block.scores, target, excluded)
    if result.dtype != torch.bool or result.shape != block.scores.shape:
        raise ValueError(f"the sampler's 'ambiguous' must be a mask {tuple(block.scores.shape)}")
    return result & ~excluded


def _weights(sampler: Any, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor | None:
    if not isinstance(sampler, SamplerWithWeights):
        return None
    weights = sampler.weights(scores, target, excluded)
    if not weights.is_floating_point() or weights.shape != scores.shape:
        raise ValueError(f"the sampler's 'weights' must be floats {tuple(scores.shape)}")
    return weights


def sample(
    sampler: Any, scores: Tensor, target: Tensor, excluded: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Negatives (q, N) bool, and queries (q,) that fell back where the sampler marks them.

    Raises:
        ValueError: If the sampler's result is no mask of the scores.
    """
    mask, fallback = torch.empty_like(excluded), torch.zeros_like(target, dtype=torch.bool)
    marks = isinstance(sampler, SamplerWithFallback)
    on_cpu = scores.device.type == "cpu"
    most = max(1, SLICE_CELLS // scores.shape[1]) if on_cpu else len(scores)
    step = -(-len(scores) // -(-len(scores) // most))  # slices of about one size
    for first in range(0, len(scores), step):
        rows = slice(first, first + step)
        inputs = scores[rows], target[rows], excluded[rows]
        if marks:
            result, fallback[rows] = sampler.negatives_and_fallback(*inputs)
        else:
            result = sampler(*inputs)
        if result.dtype != torch.bool or result.shape != inputs[0].shape:
            raise ValueError(
                f"the sampler must return a mask {tuple(inputs[0].shape)} of bool, not "
                f"{tuple(result.shape)} of {result.dtype}"
            )
        mask[rows] = result
    return mask, fallback if marks else None
