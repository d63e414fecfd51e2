from __future__ import annotations

import operator

import pytest
import torch

from cir_plugins.retrieval.counting import compare_values, count_true, even_width


@pytest.mark.parametrize("width", [0, 1, 7, 8, 200, 2039, 2040, 2041, 7000, 20_000])
def test_counts_of_any_width_equal_torchs_sum(width: int) -> None:
    mask = torch.rand(5, width, generator=torch.Generator().manual_seed(0)) < 0.9
    mask[0] = True
    mask[1] = False
    assert torch.equal(count_true(mask), mask.sum(dim=1))
    assert torch.equal(count_true(mask[2:3]), mask[2:3].sum(dim=1))
    assert torch.equal(count_true(mask[:, ::2]), mask[:, ::2].sum(dim=1))
    assert torch.equal(count_true(mask[None]), mask[None].sum(dim=2))
    assert even_width(max(width, 1)) >= width


def test_mask_starting_inside_a_word_is_counted() -> None:
    """Torch reads int64 at multiples of eight bytes only."""
    mask = (torch.arange(17) % 3 == 0)[1:].view(2, 8)
    assert count_true(mask).tolist() == mask.sum(dim=1).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_comparisons_are_torchs(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]).to(dtype)
    for relation in (operator.gt, operator.eq):
        mask = compare_values(values, relation, values[:, 1:2])
        assert torch.equal(mask, relation(values, values[:, 1:2]))
