"""What candidates are scored by while negatives are mined."""

from __future__ import annotations

import torch
from torch import Tensor

from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.mining.agreement import agreement_of_queries
from cir_plugins.mining.scored_by import ScoredBy, scores_of

# Four queries in a plane.
ANGLES = torch.tensor([0.0, 10.0, 90.0, 180.0]).deg2rad()
QUERIES = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
TARGET = torch.tensor([2, 0, 3, 3])
GALLERY = torch.eye(2)[[0, 1, 0, 1, 1]]


def scores(by: ScoredBy, gallery: Tensor = GALLERY) -> Tensor:
    return scores_of(by, QUERIES, gallery, TARGET, best_token)(slice(0, 4))


def test_a_query_scores_as_a_search_does() -> None:
    torch.testing.assert_close(scores("query"), QUERIES @ GALLERY.T)


def test_the_target_image_takes_the_place_of_the_query() -> None:
    torch.testing.assert_close(scores("target"), GALLERY[TARGET] @ GALLERY.T)


def test_a_target_of_several_tokens_is_their_mean() -> None:
    tokens = unit(torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)))
    means = unit(tokens.mean(dim=1))
    torch.testing.assert_close(scores("target", tokens), best_token(means[TARGET], tokens))


def test_queries_of_several_vectors_agree_by_their_mean() -> None:
    several = unit(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1)))
    result = scores_of("queries", several, GALLERY, TARGET, best_token)(slice(0, 4))
    expected = agreement_of_queries(unit(several.mean(dim=1)), TARGET, 5)(slice(0, 4))
    torch.testing.assert_close(result, expected)


def test_queries_give_their_agreement() -> None:
    expected = agreement_of_queries(QUERIES, TARGET, 5)(slice(0, 4))
    assert torch.equal(scores("queries"), expected)
