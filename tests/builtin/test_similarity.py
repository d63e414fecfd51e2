from __future__ import annotations

import torch

from cir_plugins.builtin.similarity import best_token, unit


def test_one_vector_each_is_a_dot_product() -> None:
    query = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    target = torch.tensor([[3.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert best_token(query, target).tolist() == [[5.0, 2.0, 1.0], [-1.0, -1.0, 0.0]]


def test_the_best_of_several_tokens_counts() -> None:
    chance = torch.Generator().manual_seed(0)
    query = torch.randn(5, 4, generator=chance)
    target = torch.randn(7, 3, 4, generator=chance)
    found = best_token(query, target)
    assert found.shape == (5, 7)
    for b in range(5):
        for c in range(7):
            expected = max(float(query[b] @ token) for token in target[c])
            assert abs(float(found[b, c]) - expected) < 1e-5


def test_unit_vectors() -> None:
    assert torch.allclose(unit(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
    assert not unit(torch.zeros(1, 3)).isnan().any()
