"""What candidates are scored by while negatives are mined."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.mining import scored_by
from cir_plugins.mining.scored_by import scores_of

# Four queries in a plane, two of them nearly the same; three have targets of their own.
ANGLES = torch.tensor([0.0, 10.0, 90.0, 180.0]).deg2rad()
QUERIES = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
TARGET = torch.tensor([2, 0, 3, 3])
GALLERY = torch.eye(2)[[0, 1, 0, 1, 1]]


def scores(by: scored_by.ScoredBy, gallery: Tensor = GALLERY) -> Tensor:
    return scores_of(by, QUERIES, gallery, TARGET, best_token)(slice(0, 4))


def test_a_query_scores_as_a_search_does() -> None:
    torch.testing.assert_close(scores("query"), QUERIES @ GALLERY.T)


def test_the_target_image_takes_the_place_of_the_query() -> None:
    torch.testing.assert_close(scores("target"), GALLERY[TARGET] @ GALLERY.T)


def test_a_target_of_several_tokens_is_their_mean() -> None:
    tokens = unit(torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)))
    means = unit(tokens.mean(dim=1))
    torch.testing.assert_close(scores("target", tokens), best_token(means[TARGET], tokens))


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
    torch.testing.assert_close(scores("queries"), expected, atol=1e-4, rtol=0)


def test_the_own_target_has_the_highest_score_exactly() -> None:
    rng = torch.Generator().manual_seed(0)
    queries = unit(torch.randn(300, 48, generator=rng))
    queries[1::2] = queries[::2]  # pairs that ask for the same, with different targets
    target = torch.arange(300)
    result = scores_of("queries", queries, torch.empty(300, 48), target, best_token)(slice(0, 300))
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
    gallery = torch.empty(50, 16)
    whole = scores_of("queries", queries, gallery, target, best_token)(slice(0, 90))
    monkeypatch.setattr(scored_by, "rows_per_block", lambda candidates, device: 7)
    some = scores_of("queries", queries, gallery, target, best_token)(slice(20, 50))
    torch.testing.assert_close(some, whole[20:50])


def test_queries_of_half_precision_have_cosines_of_full() -> None:
    """Products of bf16 rounded to bf16 would be off by up to 0.004 near 1."""
    queries = unit(torch.randn(40, 64, generator=torch.Generator().manual_seed(2))).bfloat16()
    target, gallery = torch.arange(40), torch.empty(40, 64)
    result = scores_of("queries", queries, gallery, target, best_token)(slice(0, 40))
    expected = (queries.double() @ queries.double().T).fill_diagonal_(1).clamp(max=1)
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=0)
