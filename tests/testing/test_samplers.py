from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins import eligible
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
    kept = eligible(target, excluded)
    return kept if scores.dtype == torch.float32 else kept[:, :1]


def test_the_whole_batch_keeps_the_contract() -> None:
    check_sampler(lambda scores, target, excluded: eligible(target, excluded))


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
        (lambda *_: None, r"must be a tensor \(8, 15\), not NoneType"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_told(sampler: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_sampler(sampler)
