"""QuRe's negatives and loss, worked out from the paper's formulas: needs no stored case.

Source: Kwak et al., QuRe, ICML 2025, arXiv 2507.12416: the hard set lies between two large gaps of
the sorted scores, and the loss is KL((1, 0) || softmax(s_target / t, s_negative / t)).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from baselines_plugin.methods.qure import QuRe
from baselines_plugin.parts.samplers import TwoDrops
from cir_plugins.builtin.losses import Pairwise
from tests.fakes import FakeBackbone, components

TEMPERATURE = 0.07
QUERIES, IMAGES, TOKENS, SIZE = 12, 30, 3, 8


def unit_vectors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def hard_set(scores: np.ndarray, target: int) -> list[int]:
    """Candidates between the gaps, from the definition in the paper's order."""
    below = [image for image in range(len(scores)) if scores[image] < scores[target]]
    tail = sorted(below, key=lambda image: -scores[image])  # x_0 >= x_1 >= ...
    differences = [scores[tail[k + 1]] - scores[tail[k]] for k in range(len(tail) - 1)]
    largest_first = sorted(range(len(differences)), key=lambda k: differences[k])
    for one, two in pairwise(largest_first):
        if abs(one - two) > 1:
            low, high = min(one, two), max(one, two)
            return sorted(tail[low + 1 : high + 1])
    return sorted(tail)


@pytest.mark.parametrize("seed", range(3))
def test_negatives_and_loss_follow_the_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gallery = unit_vectors(rng, IMAGES, TOKENS, SIZE)
    # Near a token of their target, so that most of the gallery ranks below it.
    query = gallery[:QUERIES, 0] + 0.3 * rng.normal(size=(QUERIES, SIZE))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    target = np.arange(QUERIES)
    # s(q, I) = max_k q . v_k
    scores = np.array([[max(q @ v for v in image) for image in gallery] for q in query])
    hard = [hard_set(scores[row], row) for row in target]
    negative = np.array([columns[int(rng.integers(len(columns)))] for columns in hard])
    # KL((1, 0) || p) = -log p_target, p = softmax of the two scores over the temperature
    pairs = np.stack([scores[target, target], scores[target, negative]], axis=1) / TEMPERATURE
    probabilities = np.exp(pairs) / np.exp(pairs).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[:, 0]).mean()
    # d loss / d s_negative = p_negative / (t B), and minus that for s_target
    slope = probabilities[:, 1] / (TEMPERATURE * QUERIES)

    method = QuRe(
        components(FakeBackbone(), loss=Pairwise(), sampler=TwoDrops(), negatives="mined"),
        temperature=TEMPERATURE,
    )
    ours = method.similarity(torch.from_numpy(query), torch.from_numpy(gallery)).requires_grad_()
    columns = torch.from_numpy(target)
    excluded = torch.zeros(QUERIES, IMAGES, dtype=torch.bool)
    mask = method.sampler(ours.detach(), columns, excluded)
    drawn = torch.zeros_like(mask).scatter(1, torch.from_numpy(negative)[:, None], True)
    value = method.reduce_loss(method.loss, ours, columns, drawn)
    (gradient,) = torch.autograd.grad(value, ours)

    assert np.allclose(ours.detach().numpy(), scores, atol=1e-6)
    assert [row.nonzero().flatten().tolist() for row in mask] == hard
    assert any(0 < len(row) < IMAGES // 2 for row in hard), "the rule must leave some out"
    assert value.item() == pytest.approx(loss, abs=1e-6)
    expected = np.zeros_like(scores)
    expected[target, negative] = slope
    expected[target, target] = -slope
    assert np.allclose(gradient.numpy(), expected, atol=1e-6)
