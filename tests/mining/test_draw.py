from __future__ import annotations

import random

import pytest
import torch

from cir_plugins.mining.draw import draw, scramble
from cir_plugins.seeds import mix_seed


def test_draw_is_without_replacement_until_used_up() -> None:
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 9, generator=rng) < 0.4
    mask[0] = False
    drawn = draw(mask, 20, seed=7, repeat=True)
    for row in range(40):
        candidates = set(mask[row].nonzero().flatten().tolist())
        ids = drawn[row].tolist()
        if not candidates:
            assert ids == [-1] * 20
            continue
        assert set(ids[: len(candidates)]) == candidates
        assert ids == [ids[place % len(candidates)] for place in range(20)]
    assert not torch.equal(draw(mask, 20, seed=8, repeat=True), drawn)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.3, 1.0])
def test_masks_of_any_share_give_distinct_columns(share: float) -> None:
    """Sparse masks are listed, dense ones proposed to, and those between met by both."""
    rng = torch.Generator().manual_seed(1)
    mask = torch.rand(50, 1000, generator=rng) < share
    drawn = draw(mask, 4, seed=3, repeat=True)
    for row, ids in enumerate(drawn.tolist()):
        size = int(mask[row].sum())
        assert len(set(ids)) == min(4, max(size, 1))
        assert all(bool(mask[row, column]) for column in ids) if size else ids == [-1] * 4


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    mask = torch.rand(30, 200, generator=torch.Generator().manual_seed(2)) < 0.1
    whole = draw(mask, 5, seed=1, repeat=True)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draw(mask[order], 5, seed=1, rows=order, repeat=True), whole[order])
    assert torch.equal(draw(mask[7:8], 5, seed=1, first_row=7, repeat=True), whole[7:8])


@pytest.mark.parametrize(("columns", "allowed"), [(10, 10), (1000, 10)])
def test_every_column_is_drawn_about_as_often(columns: int, allowed: int) -> None:
    """Of ten columns drawn from by proposals, and of ten in a thousand, which are listed."""
    mask = torch.zeros(4000, columns, dtype=torch.bool)
    mask[:, :allowed] = True
    drawn = draw(mask, 3, seed=3)
    for place in range(3):
        counts = torch.bincount(drawn[:, place], minlength=allowed).tolist()
        # 400 expected, standard deviation 19
        assert all(320 < number < 480 for number in counts)


def test_scramble_keeps_keys_apart() -> None:
    keys = torch.tensor(random.Random(0).sample(range(2**32), 20000))
    mixed = scramble(keys)
    assert len(set(mixed.tolist())) == 20000
    assert 0 <= int(mixed.min()) <= int(mixed.max()) < 2**32
    # the finaliser in plain integers
    for key, value in zip(keys[:50].tolist(), mixed[:50].tolist(), strict=True):
        key = (key ^ key >> 16) * 0x7FEB352D % 2**32
        key = (key ^ key >> 15) * 0x846CA68B % 2**32
        assert value == key ^ key >> 16


def test_a_short_row_repeats_or_is_padded() -> None:
    mask = torch.rand(40, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    padded, repeated = draw(mask, 20, seed=7), draw(mask, 20, seed=7, repeat=True)
    for row, size in enumerate(mask.sum(dim=1).tolist()):
        assert padded[row, :size].tolist() == repeated[row, :size].tolist()
        assert (padded[row, size:] == -1).all()


def test_another_epoch_draws_anew() -> None:
    mask = torch.rand(40, 90, generator=torch.Generator().manual_seed(0)) < 0.4
    drawn = [draw(mask, 5, seed=1, epoch=epoch) for epoch in (0, 1, 1)]
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[1], drawn[2])


def test_the_draw_of_a_seed_is_written_down() -> None:
    """Trained numbers depend on these columns: a draw that changes them is another benchmark."""
    mask = torch.ones(3, 1000, dtype=torch.bool)
    row, place = 1, 0
    key = mix_seed(5, 2) & 0xFFFFFFFF
    value = (row * 0x632BE5AB + place * 0x85157AF5 + key) % 2**32
    value = (value ^ value >> 16) * 0x7FEB352D % 2**32
    value = (value ^ value >> 15) * 0x846CA68B % 2**32
    assert int(draw(mask, 4, seed=5, epoch=2)[row, 0]) == (value ^ value >> 16) % 1000


def test_nothing_to_draw_and_wrong_masks() -> None:
    assert draw(torch.zeros(2, 0, dtype=torch.bool), 3, seed=0).tolist() == [[-1] * 3] * 2
    assert draw(torch.zeros(0, 4, dtype=torch.bool), 3, seed=0).shape == (0, 3)
    with pytest.raises(
        ValueError, match=r"a mask \(q, N\) of bool, found \(2, 4\) of torch.float32"
    ):
        draw(torch.ones(2, 4), 3, seed=0)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        draw(torch.ones(2, 4, dtype=torch.bool), 0, seed=0)


def test_draws_depend_on_the_row_and_are_even() -> None:
    allowed = torch.ones(400, 10, dtype=torch.bool)
    allowed[:, 3] = False
    first = draw(allowed, 3, seed=1)
    assert torch.equal(first[100:], draw(allowed[100:], 3, seed=1, first_row=100))
    assert not torch.equal(first, draw(allowed, 3, seed=2))
    assert all(len({*row}) == 3 and 3 not in row for row in first.tolist())
    drawn = torch.bincount(first.flatten(), minlength=10)
    assert int(drawn[[0, 1, 2, 4, 5, 6, 7, 8, 9]].min()) > 90  # 133 expected of each
    assert draw(allowed, 12, seed=1)[:, 9:].eq(-1).all()


def test_proposed_and_listed_columns_are_even() -> None:
    """Wide rows take proposals, narrow ones list their columns: both even, both without repeats."""
    wide = torch.ones(300, 1000, dtype=torch.bool)
    narrow = torch.zeros(300, 1000, dtype=torch.bool)
    narrow[:, 10:30] = True
    for allowed, most in ((wide, 1000), (narrow, 20)):
        ids = draw(allowed, 5, seed=3)
        assert allowed.gather(1, ids).all()
        assert all(len({*row}) == 5 for row in ids.tolist())
        assert torch.equal(ids[7:90], draw(allowed[7:90], 5, seed=3, first_row=7))
        quarter = (ids - ids.min()) * 4 // most
        assert int(torch.bincount(quarter.flatten(), minlength=4).min()) > 300  # 375 expected


def test_weights_are_the_chances_of_a_first_draw() -> None:
    """Chances 1/8, 0, 5/8 and 2/8 over 20,000 rows; the standard error is 0.35 % at most."""
    weights = torch.tensor([1.0, 0.0, 5.0, 2.0]).expand(20_000, 4)
    mask = weights > 0
    drawn = draw(mask, 4, seed=5, weights=weights)
    first = torch.bincount(drawn[:, 0], minlength=4) / 20_000
    assert first.tolist() == pytest.approx([0.125, 0.0, 0.625, 0.25], abs=0.012)
    # Without replacement: after column 2, column 3 has 2/3 of what is left.
    second = drawn[drawn[:, 0] == 2][:, 1]
    assert float((second == 3).float().mean()) == pytest.approx(2 / 3, abs=0.015)
    assert {tuple(sorted(row)) for row in drawn[:, :3].tolist()} == {(0, 2, 3)}
    assert set(drawn[:, 3].tolist()) == {-1}
    repeated = draw(mask, 4, seed=5, weights=weights, repeat=True)
    assert torch.equal(repeated[:, 3], repeated[:, 0])


def test_weighted_draws_do_not_depend_on_blocks() -> None:
    rng = torch.Generator().manual_seed(2)
    weights = torch.rand(30, 50, generator=rng).double() * (torch.rand(30, 50, generator=rng) < 0.5)
    whole = draw(weights > 0, 3, seed=1, weights=weights)
    part = draw(weights[10:20] > 0, 3, seed=1, weights=weights[10:20], first_row=10)
    assert torch.equal(part, whole[10:20])
    tiny = draw(weights > 0, 3, seed=1, weights=weights * 1e-290)
    assert torch.equal(tiny, whole)
