from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins import eligible
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.testing import ContractError, check_sampler


def takes_target(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return ~excluded


def takes_excluded(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, torch.zeros_like(excluded))


def draws(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded) & (torch.rand_like(scores) < 0.5)


def draws_in_vain(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    torch.rand(1)
    return eligible(target, excluded)


def with_a_memory() -> Any:
    calls = count()

    def sampler(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        return eligible(target, excluded) & bool(next(calls) % 2)

    return sampler


def looks_at_other_rows(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded) & (scores > scores.float().mean())


def goes_by_column(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded) & (torch.arange(scores.shape[1]) % 2 == 0)


def overwrites(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return ~excluded.scatter_(1, target[:, None], True)


def gives_weights(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded).float()


def gives_rows(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded).any(dim=1)


def fails_in_half(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    choice = eligible(target, excluded)
    return choice if scores.dtype == torch.float32 else choice[:, :1]


def test_the_whole_batch_keeps_the_contract() -> None:
    check_sampler(lambda scores, target, excluded: eligible(target, excluded))


def takes_three(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    allowed = eligible(target, excluded)
    best = scores.masked_fill(~allowed, -torch.inf).topk(3).indices
    return torch.zeros_like(allowed).scatter(1, best, True) & allowed


def takes_a_quantile(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded) & (scores > scores.quantile(0.5, dim=1, keepdim=True))


def goes_through_numpy(scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    return eligible(target, excluded) & torch.from_numpy(scores.numpy() > 0.0)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (takes_target, "the target is chosen as a negative in rows"),
        (takes_excluded, "excluded candidates are chosen in rows"),
        (draws, "a sampler has neither state nor randomness"),
        (draws_in_vain, "the sampler draws random numbers"),
        (with_a_memory(), "a sampler has neither state nor randomness"),
        (looks_at_other_rows, "a row must not depend on the others"),
        (goes_by_column, "depends on the order of the candidates"),
        (overwrites, "the sampler changes its input 'excluded' in place"),
        (gives_weights, "the result must be bool, not torch.float32"),
        (gives_rows, r"must have shape \(8, 15\), found \(8,\)"),
        (fails_in_half, r"must have shape \(8, 15\), found \(8, 1\)"),
        (takes_three, r"raises RuntimeError on scores \(2, 1\): a single candidate: "),
        (takes_a_quantile, r"raises RuntimeError on scores \(8, 15\) in float16: "),
        (goes_through_numpy, r"raises TypeError on scores \(8, 15\) in bfloat16: "),
        (lambda s, t: t, r"the sampler raises TypeError on scores \(8, 15\): .* positional"),
        (InBatch, r"the sampler must be built: give the check InBatch\(\), not the class InBatch"),
        (3, "the sampler must be callable, found 3"),
        (lambda *_: None, r"must be a tensor \(8, 15\), not NoneType"),
    ],
)
def test_a_broken_sampler_contract_is_named(sampler: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_sampler(sampler)


class Fallen(InBatch):
    """A sampler with fallback, right or with one error."""

    def __init__(self, *, other: bool = False, dtype: torch.dtype = torch.bool) -> None:
        self.other, self.dtype = other, dtype

    def negatives_and_fallback(
        self, scores: Tensor, target: Tensor, excluded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negatives, and no query that fell back."""
        mask = self(scores, target, excluded)
        return mask & (not self.other), torch.zeros(len(mask), dtype=self.dtype)


def test_negatives_with_fallback_equal_a_call() -> None:
    """Mining calls the one, training in the batch the other."""
    check_sampler(Fallen())
    with pytest.raises(ContractError, match="gives other negatives than a call of the sampler"):
        check_sampler(Fallen(other=True))
    with pytest.raises(ContractError, match=r"the queries that fell back are torch\.int64"):
        check_sampler(Fallen(dtype=torch.long))
