from __future__ import annotations

import torch

from cir_plugins.builtin.similarity import best_token, full_precision, unit


def test_one_vector_each_is_a_dot_product() -> None:
    query = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    target = torch.tensor([[3.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert best_token(query, target).tolist() == [[5.0, 2.0, 1.0], [-1.0, -1.0, 0.0]]


def test_the_best_of_several_tokens_counts() -> None:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(5, 4, generator=rng)
    target = torch.randn(7, 3, 4, generator=rng)
    result = best_token(query, target)
    assert result.shape == (5, 7)
    for b in range(5):
        for c in range(7):
            expected = max(float(query[b] @ token) for token in target[c])
            assert abs(float(result[b, c]) - expected) < 1e-5


def test_unit_vectors() -> None:
    assert torch.allclose(unit(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
    assert not unit(torch.zeros(1, 3)).isnan().any()


def test_scores_are_of_full_precision_under_autocast() -> None:
    rng = torch.Generator().manual_seed(0)
    query = unit(torch.randn(6, 64, generator=rng))
    target = unit(torch.randn(9, 2, 64, generator=rng))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, scores = query @ target[:, 0].T, best_token(query, target)
        half = best_token(query.bfloat16(), target)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(scores, best_token(query, target))
    assert half.dtype == torch.float32


def test_without_autocast_the_type_stays() -> None:
    vectors = torch.ones(2, 3, dtype=torch.float64)
    assert full_precision(torch.mul)(vectors, vectors).dtype == torch.float64
