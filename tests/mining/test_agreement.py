"""Scores from queries alone: what near-equal queries have as their targets."""

from __future__ import annotations

import pytest
import torch

from cir_plugins.builtin.similarity import unit
from cir_plugins.mining import agreement, agreement_of_queries
from dqe_plugin.sampler import TargetRelative

# Four queries in a plane, two of them nearly the same; the last two have one target.
ANGLES = torch.tensor([0.0, 10.0, 90.0, 180.0]).deg2rad()
QUERIES = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
TARGET = torch.tensor([2, 0, 3, 3])


def test_a_candidate_has_the_cosine_of_the_nearest_query_that_asks_for_it() -> None:
    """By hand: cos 10° = 0.985, cos 80° = 0.174, cos 170° = -0.985; images 1 and 4 are nobody's."""
    expected = torch.tensor(
        [
            [0.9848, -1.0, 1.0, 0.0, -1.0],
            [1.0, -1.0, 0.9848, 0.1736, -1.0],
            [0.1736, -1.0, 0.0, 1.0, -1.0],
            [-0.9848, -1.0, -1.0, 1.0, -1.0],
        ]
    )
    torch.testing.assert_close(
        agreement_of_queries(QUERIES, TARGET, 5)(slice(0, 4)), expected, atol=1e-4, rtol=0
    )


def test_the_own_target_has_the_highest_score_exactly() -> None:
    rng = torch.Generator().manual_seed(0)
    queries = unit(torch.randn(300, 48, generator=rng))
    queries[1::2] = queries[::2]  # pairs that ask for the same, with different targets
    target = torch.arange(300)
    result = agreement_of_queries(queries, target, 300)(slice(0, 300))
    assert (result.diagonal() == 1).all()
    assert result.max() == 1
    first = torch.arange(0, 300, 2)
    torch.testing.assert_close(result[first, first + 1], torch.ones(150))


def test_blocks_of_rows_and_of_the_other_queries_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = torch.Generator().manual_seed(1)
    queries = unit(torch.randn(90, 16, generator=rng))
    target = torch.randint(0, 40, (90,), generator=rng)
    whole = agreement_of_queries(queries, target, 50)(slice(0, 90))
    monkeypatch.setattr(agreement, "rows_per_block", lambda candidates, device: 7)
    some = agreement_of_queries(queries, target, 50)(slice(20, 50))
    torch.testing.assert_close(some, whole[20:50])


def test_queries_of_half_precision_have_cosines_of_full() -> None:
    """Products of bf16 rounded to bf16 would be off by up to 0.004 near 1."""
    queries = unit(torch.randn(40, 64, generator=torch.Generator().manual_seed(2))).bfloat16()
    target = torch.arange(40)
    result = agreement_of_queries(queries, target, 40)(slice(0, 40))
    expected = (queries.double() @ queries.double().T).fill_diagonal_(1).clamp(max=1)
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=0)


def test_a_query_without_target_asks_for_nothing_and_is_scored() -> None:
    result = agreement_of_queries(QUERIES, torch.tensor([2, -1, 3, -1]), 4)(slice(0, 4))
    expected = torch.tensor([[-1, -1, 1, 0], [-1, -1, 0.9848, 0.1736], [-1, -1, 0, 1]])
    torch.testing.assert_close(result[:3], expected, atol=1e-4, rtol=0)
    assert result[3].tolist() == pytest.approx([-1, -1, -1, 0], abs=1e-6)


def test_with_the_sampler_it_marks_what_near_queries_ask_for() -> None:
    scores = agreement_of_queries(QUERIES, TARGET, 5)(slice(0, 4))
    sampler = TargetRelative(unit="absolute", lower=0.1, upper=0.6)
    marked = sampler.ambiguous(scores, TARGET, torch.zeros(4, 5, dtype=torch.bool))
    assert marked.nonzero().tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([2, 0, 5, 3], "row 2: target 5 is no column of 5; -1 is none"),
        ([2, -2, 3, 3], "row 1: target -2 is no column"),
        ([2.0, 0.0, 3.0, 3.0], r"expected queries \(Q, D\) and targets \(Q,\) of int"),
        ([2, 0, 3], r"found \(4, 2\) and \(3,\) of torch.int64"),
    ],
)
def test_what_does_not_fit_is_named(target: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agreement_of_queries(QUERIES, torch.tensor(target), 5)
