from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cir_plugins.features import concatenate, count, each, select, size_in_bytes


class Two(NamedTuple):
    """Features of two kinds."""

    first: Tensor
    second: Tensor


def both() -> Two:
    return Two(torch.arange(6.0).view(3, 2), torch.arange(3))


def test_tensor_and_named_tuple_are_selected_alike() -> None:
    index = torch.tensor([2, 0, 2])
    assert select(both().first, index).tolist() == [[4, 5], [0, 1], [4, 5]]
    selected = select(both(), index)
    assert isinstance(selected, Two)
    assert selected.first.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert selected.second.tolist() == [2, 0, 2]


def test_each_keeps_the_kind_of_tuple() -> None:
    doubled = each(both(), lambda tensor: tensor * 2)
    assert isinstance(doubled, Two)
    assert doubled.second.tolist() == [0, 2, 4]


def test_concatenate_puts_back_what_was_split() -> None:
    whole = both()
    groups = [select(whole, torch.tensor([0])), select(whole, torch.tensor([1, 2]))]
    again = concatenate(groups)
    assert isinstance(again, Two)
    assert torch.equal(again.first, whole.first)
    assert torch.equal(again.second, whole.second)
    assert torch.equal(concatenate([whole.first[:1], whole.first[1:]]), whole.first)


def test_count_and_size() -> None:
    assert count(both()) == 3
    assert count(both().first) == 3
    # six fp32 values and three int64 ones
    assert size_in_bytes(both()) == 6 * 4 + 3 * 8
    assert size_in_bytes(both().first) == 24
