from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch

from baselines_plugin.parts.samplers import TwoDrops
from cir_plugins.testing import check_sampler


def negatives_of(
    scores: list[float], target: int = 0, out: tuple[int, ...] = (), **options: int
) -> list[int]:
    excluded = torch.zeros(1, len(scores), dtype=torch.bool)
    excluded[0, list(out)] = True
    sampler = TwoDrops(fallback="none", **options)
    mask = sampler(torch.tensor([scores]), torch.tensor([target]), excluded)
    return mask[0].nonzero().flatten().tolist()


def test_between_the_two_largest_score_gaps() -> None:
    """Below the target 7: 6 5 | 2 1 0 | -6 -7, the gaps 1 3 1 1 6 1: largest at ranks 4 and 1."""
    assert negatives_of([7, 6, 5, 2, 1, 0, -6, -7]) == [3, 4, 5]
    # any order of columns, and what scores above the target plays no part
    assert negatives_of([2, -7, 7, 6, 99, 5, -6, 0, 1], target=2) == [0, 7, 8]


def test_neighbouring_score_gaps_are_skipped_by_pairs() -> None:
    """Below 20: 19 | 13 | 6 5 3 2, the gaps 6 7 1 2 1: ranks 1, 0 touch; 0 and 3 do not."""
    assert negatives_of([20, 19, 13, 6, 5, 3, 2]) == [2, 3, 4]
    # three ranks apart do not differ by more than 3; the next pair, 3 and 2, touches, and 2 and 4
    assert negatives_of([20, 19, 13, 6, 5, 3, 2], apart=3) == []
    assert negatives_of([20, 19, 13, 6, 5, 3, 2], apart=2) == [2, 3, 4]


def test_excluded_candidates_leave_before_the_ranking() -> None:
    """Without 5: 6 | 2 1 0 | -6 -7, the gaps 4 1 1 6 1 at ranks 3 and 0."""
    assert negatives_of([7, 6, 5, 2, 1, 0, -6, -7], out=(2,)) == [3, 4, 5]
    # without -6 and -7 the gaps 1 3 1 1: rank 1, then 0 (touches), then 0 and 2
    assert negatives_of([7, 6, 5, 2, 1, 0, -6, -7], out=(6, 7)) == [2, 3]


def test_repeats_count_twice() -> None:
    """Below 9: 8 8 | 4 4 | 1, the gaps 0 4 0 3: ranks 1 and 3 differ by 2."""
    assert negatives_of([9, 8, 8, 4, 4, 1]) == [3, 4]
    # once each: 8 | 4 | 1, the gaps 4 3 at ranks that touch
    assert negatives_of([9, 8, 4, 1]) == []


def test_rows_without_a_pair_fall_back() -> None:
    """Three below the target, the target last, and gaps that only grow."""
    scores = torch.tensor([[5.0, 9, 3, 2, 1], [1, 9, 5, 3, 2], [16, 15, 13, 9, 1]])
    target, excluded = torch.tensor([0, 0, 0]), torch.zeros(3, 5, dtype=torch.bool)
    excluded[1, 2] = True
    for row in range(3):
        assert TwoDrops().negatives_and_fallback(scores, target, excluded)[1].tolist()[row]
    assert not TwoDrops(fallback="none")(scores, target, excluded).any()
    assert TwoDrops()(scores, target, excluded).tolist() == [
        [False, False, True, True, True],
        [False, True, False, True, True],
        [False, True, True, True, True],
    ]


def slow(scores: list[float], target: int, excluded: list[bool], apart: int) -> list[int] | None:
    """The rule in plain words over lists, for distinct scores."""
    below = [c for c in range(len(scores)) if c != target and not excluded[c]]
    tail = sorted((c for c in below if scores[c] <= scores[target]), key=lambda c: -scores[c])
    gaps = [scores[tail[k + 1]] - scores[tail[k]] for k in range(len(tail) - 1)]
    order = sorted(range(len(gaps)), key=lambda k: gaps[k])
    for one, two in pairwise(order):
        if abs(one - two) > apart:
            return sorted(tail[min(one, two) + 1 : max(one, two) + 1])
    return None


@pytest.mark.parametrize("apart", [0, 1, 3])
def test_like_the_plain_rule(apart: int) -> None:
    found_none = found_some = 0
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        columns = 3 + seed
        scores = torch.randn(12, columns, generator=rng)
        target = torch.randint(columns, (12,), generator=rng)
        excluded = torch.rand(12, columns, generator=rng) < 0.2
        excluded.scatter_(1, target[:, None], False)
        sampler = TwoDrops(apart=apart, fallback="none")
        mask, fallen = sampler.negatives_and_fallback(scores, target, excluded)
        for row in range(12):
            expected = slow(scores[row].tolist(), int(target[row]), excluded[row].tolist(), apart)
            assert mask[row].nonzero().flatten().tolist() == (expected or [])
            assert bool(fallen[row]) == (expected is None)
            found_none += expected is None
            found_some += expected is not None
    assert found_none
    assert found_some


@pytest.mark.parametrize("fallback", ["tail", "none"])
def test_keeps_the_contract_of_samplers(fallback: Literal["tail", "none"]) -> None:
    for seed in range(3):
        check_sampler(TwoDrops(fallback=fallback), seed=seed)


def test_options_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="apart must be at least 0, not -1"):
        TwoDrops(apart=-1)
