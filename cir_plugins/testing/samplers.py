"""The contract of samplers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cir_plugins.testing.contract import (
    calling,
    require,
    require_built,
    require_tensor,
    require_unchanged,
    shown,
)
from cir_plugins.types import SamplerWithAmbiguity, SamplerWithFallback, SamplerWithWeights

_ROWS, _COLUMNS = 8, 15


def check_sampler(sampler: Any, *, seed: int = 0) -> None:
    """Check that a sampler picks negatives as the host relies on.

    It gives (Q, N) bool without target and excluded columns; leaves its inputs alone; has neither
    state nor randomness; treats rows on their own, so that a block of the corpus gives those rows
    of the whole; does not depend on the order of candidates with distinct scores; and takes
    scores in half precision and a single candidate. A ``SamplerWithFallback`` gives the same mask
    with the queries (Q,) bool that fell back; a ``SamplerWithWeights`` weights above 0 for its
    negatives alone; what a ``SamplerWithAmbiguity`` marks is neither target, excluded nor negative.

    Args:
        sampler: The sampler, built.
        seed: Of the made-up scores.

    Raises:
        ContractError: With what to fix.
    """
    require_built("sampler", sampler)
    scores, target, excluded = _inputs(seed)
    whole = _pick(sampler, scores, target, excluded)
    _check_state(sampler, whole, scores, target, excluded)
    _check_blocks(sampler, whole, scores, target, excluded)
    _check_fallback(sampler, whole, scores, target, excluded)
    _check_weights(sampler, whole, scores, target, excluded)
    _check_ambiguous(sampler, whole, scores, target, excluded)
    order = torch.randperm(_COLUMNS, generator=torch.Generator().manual_seed(seed + 1))
    position = order.argsort()
    moved = _pick(sampler, scores[:, order], position[target], excluded[:, order])
    require(
        torch.equal(moved, whole[:, order]),
        "the choice depends on the order of the candidates although all scores differ",
    )
    for dtype in (torch.float16, torch.bfloat16):
        _pick(sampler, scores.to(dtype), target, excluded)
    only = torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool)
    _pick(sampler, scores[:2, :1], *only, note=": a single candidate")


def _inputs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct scores; targets high, middling and low; one row excluded entirely."""
    rng = torch.Generator().manual_seed(seed)
    grid = torch.linspace(-0.9, 0.9, _ROWS * _COLUMNS)
    scores = grid[torch.randperm(len(grid), generator=rng)].view(_ROWS, _COLUMNS)
    target = torch.randint(_COLUMNS, (_ROWS,), generator=rng)
    target[0], target[1] = scores[0].argmax(), scores[1].argmin()
    excluded = torch.rand(_ROWS, _COLUMNS, generator=rng) < 0.25
    excluded[2] = True
    return scores, target, excluded.scatter(1, target[:, None], False)


def _pick(
    sampler: Any, scores: Tensor, target: Tensor, excluded: Tensor, *, note: str = ""
) -> Tensor:
    inputs = {"scores": scores.clone(), "target": target.clone(), "excluded": excluded.clone()}
    before = {name: value.clone() for name, value in inputs.items()}
    with calling("the sampler", f"{shown(scores)}{note}"):
        result = sampler(inputs["scores"], inputs["target"], inputs["excluded"])
    mask = require_tensor("the sampler's result", result, tuple(scores.shape))
    require(mask.dtype == torch.bool, f"the result must be bool, not {mask.dtype}")
    require(mask.device == scores.device, f"the result is on {mask.device}, not {scores.device}")
    require_unchanged("the sampler", before, inputs)
    hit = mask.gather(1, target[:, None]).any(dim=1)
    require(not bool(hit.any()), f"the target is chosen as a negative in rows {_rows(hit)}")
    wrong = (mask & excluded).any(dim=1)
    require(not bool(wrong.any()), f"excluded candidates are chosen in rows {_rows(wrong)}")
    return mask


def _check_state(
    sampler: Any, whole: Tensor, scores: Tensor, target: Tensor, excluded: Tensor
) -> None:
    _pick(sampler, -scores, target, excluded)
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            state = torch.random.get_rng_state()
            again = _pick(sampler, scores, target, excluded)
            require(
                torch.equal(again, whole),
                "the same input gives another choice: a sampler has neither state nor randomness",
            )
            require(
                torch.equal(state, torch.random.get_rng_state()),
                "the sampler draws random numbers; drawing K negatives is the host's job",
            )


def _check_blocks(
    sampler: Any, whole: Tensor, scores: Tensor, target: Tensor, excluded: Tensor
) -> None:
    for first, last in ((2, 5), *((row, row + 1) for row in range(_ROWS))):
        rows = slice(first, last)
        block = _pick(
            sampler, scores[rows], target[rows], excluded[rows], note=": some of the rows"
        )
        require(
            torch.equal(block, whole[rows]),
            f"rows {first} to {last - 1} alone give another choice than within {_ROWS} rows: a "
            "row must not depend on the others",
        )


def _check_fallback(
    sampler: Any, whole: Tensor, scores: Tensor, target: Tensor, excluded: Tensor
) -> None:
    if not isinstance(sampler, SamplerWithFallback):
        return
    with calling("negatives_and_fallback", shown(scores)):
        mask, fallback = sampler.negatives_and_fallback(scores, target, excluded)
    require(
        torch.equal(mask, whole),
        "negatives_and_fallback gives other negatives than a call of the sampler",
    )
    fallback = require_tensor("the queries that fell back", fallback, (len(scores),))
    require(fallback.dtype == torch.bool, f"the queries that fell back are {fallback.dtype}")


def _check_weights(
    sampler: Any, whole: Tensor, scores: Tensor, target: Tensor, excluded: Tensor
) -> None:
    if not isinstance(sampler, SamplerWithWeights):
        return
    with calling("weights", shown(scores)):
        weights = sampler.weights(scores, target, excluded)
    weights = require_tensor("the weights", weights, tuple(scores.shape))
    require(weights.is_floating_point(), f"the weights must be floats, not {weights.dtype}")
    require(torch.equal(weights > 0, whole), "the weights are not above 0 for the negatives alone")


def _check_ambiguous(
    sampler: Any, whole: Tensor, scores: Tensor, target: Tensor, excluded: Tensor
) -> None:
    if not isinstance(sampler, SamplerWithAmbiguity):
        return
    with calling("ambiguous", shown(scores)):
        mask = sampler.ambiguous(scores, target, excluded)
    mask = require_tensor("what is ambiguous", mask, tuple(scores.shape))
    require(mask.dtype == torch.bool, f"what is ambiguous must be bool, not {mask.dtype}")
    never = excluded.scatter(1, target[:, None], True)
    if isinstance(sampler, SamplerWithFallback):  # which may be all that a row has
        fallback = sampler.negatives_and_fallback(scores, target, excluded)[1]
        whole = whole & ~fallback[:, None]
    wrong = (mask & (never | whole)).any(dim=1)
    require(
        not bool(wrong.any()),
        f"targets, excluded candidates or negatives are ambiguous in rows {_rows(wrong)}",
    )


def _rows(flags: Tensor) -> list[int]:
    rows: list[int] = flags.nonzero().flatten().tolist()
    return rows
