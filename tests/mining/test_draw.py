from __future__ import annotations

import random

import pytest
import torch

from cir_plugins.mining.draw import draw, scramble


def test_draw_is_without_replacement_until_used_up() -> None:
    chance = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 9, generator=chance) < 0.4
    mask[0] = False
    drawn = draw(mask, torch.arange(40), 20, seed=7)
    for row in range(40):
        pool = set(mask[row].nonzero().flatten().tolist())
        found = drawn[row].tolist()
        if not pool:
            assert found == [-1] * 20
            continue
        assert set(found[: len(pool)]) == pool
        assert found == [found[place % len(pool)] for place in range(20)]
    assert not torch.equal(draw(mask, torch.arange(40), 20, seed=8), drawn)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.3, 1.0])
def test_pools_of_any_size_give_distinct_columns_of_their_own(share: float) -> None:
    """Small pools are listed, large ones proposed to, and those between met by both."""
    chance = torch.Generator().manual_seed(1)
    mask = torch.rand(50, 1000, generator=chance) < share
    drawn = draw(mask, torch.arange(50), 4, seed=3)
    for row, found in enumerate(drawn.tolist()):
        size = int(mask[row].sum())
        assert len(set(found)) == min(4, max(size, 1))
        assert all(bool(mask[row, column]) for column in found) if size else found == [-1] * 4


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    mask = torch.rand(30, 200, generator=torch.Generator().manual_seed(2)) < 0.1
    whole = draw(mask, torch.arange(30), 5, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draw(mask[order], order, 5, seed=1), whole[order])
    assert torch.equal(draw(mask[7:8], torch.tensor([7]), 5, seed=1), whole[7:8])


@pytest.mark.parametrize(("columns", "allowed"), [(10, 10), (1000, 10)])
def test_every_column_is_drawn_about_as_often(columns: int, allowed: int) -> None:
    """Of ten columns drawn from by proposals, and of ten in a thousand, which are listed."""
    mask = torch.zeros(4000, columns, dtype=torch.bool)
    mask[:, :allowed] = True
    drawn = draw(mask, torch.arange(4000), 3, seed=3)
    for place in range(3):
        counts = torch.bincount(drawn[:, place], minlength=allowed).tolist()
        # 400 expected, standard deviation 19
        assert all(320 < number < 480 for number in counts)


def test_scramble_tells_keys_apart() -> None:
    keys = torch.tensor(random.Random(0).sample(range(2**32), 20000))
    mixed = scramble(keys)
    assert len(set(mixed.tolist())) == 20000
    assert 0 <= int(mixed.min()) <= int(mixed.max()) < 2**32
    # the finaliser in plain integers
    for key, found in zip(keys[:50].tolist(), mixed[:50].tolist(), strict=True):
        key = (key ^ key >> 16) * 0x7FEB352D % 2**32
        key = (key ^ key >> 15) * 0x846CA68B % 2**32
        assert found == key ^ key >> 16
