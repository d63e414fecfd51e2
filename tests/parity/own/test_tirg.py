"""TIRG's gated residual and loss, worked out from the paper's formulas: needs no stored case.

Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119, sections 3.2 and 3.4, and the released layers:
q = a_0 sigmoid(gate) * x + a_1 residual, logits s^2 cos(q, v), cross-entropy over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines_plugin.methods.tirg import TIRG
from cir_plugins import Batch
from tests.fakes import components

BATCH, WIDTH, TEXT = 5, 4, 3


class Vectors(nn.Module):
    """A backbone whose features are the images' vectors, and whose tokens are the texts'."""

    frozen_features = False
    width, text_width, channels = WIDTH, TEXT, WIDTH

    def features(self, images: Tensor) -> Tensor:
        """The vectors (U, D)."""
        return images

    def project(self, features: Tensor) -> Tensor:
        """The vectors (n, D)."""
        return features

    def describe(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """The texts' vectors (B, E)."""
        return tokens["vectors"]


def batch_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Standardised over the batch by its biased variance, then scaled and shifted."""
    centred = x - x.mean(axis=0)
    return centred / np.sqrt((centred**2).mean(axis=0) + 1e-5) * weight + bias


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x @ weight.T + bias


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


@pytest.mark.parametrize("seed", range(3))
def test_composition_and_loss_follow_the_formulas(seed: int) -> None:
    torch.manual_seed(seed)
    method = TIRG(components(Vectors())).double().train()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
    p = {name: value.detach().numpy() for name, value in method.named_parameters()}

    def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
        return p[f"composer.{name}.weight"], p[f"composer.{name}.bias"]

    image, text = rng.normal(size=(BATCH, WIDTH)), rng.normal(size=(BATCH, TEXT))
    target = rng.normal(size=(BATCH, WIDTH))
    z = np.concatenate([image, text], axis=1)
    # g = Linear(ReLU(BN(z))); r = Linear(ReLU(Linear(ReLU(BN(z))))), each with its own BN
    gate = linear(relu(batch_norm(z, *layer("gate.0"))), *layer("gate.2"))
    hidden = linear(relu(batch_norm(z, *layer("residual.0"))), *layer("residual.2"))
    residual = linear(relu(hidden), *layer("residual.4"))
    # q = a_0 sigmoid(g) x + a_1 r
    a = p["composer.weights"]
    query = a[0] / (1 + np.exp(-gate)) * image + a[1] * residual
    # logits s^2 cos(q_i, v_j); loss -1/B sum_i log softmax_j at j = i
    cosines = query @ target.T
    cosines /= np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(target, axis=1)
    logits = p["norm_s"][0] ** 2 * cosines
    loss = -np.mean([row[i] - np.log(np.exp(row).sum()) for i, row in enumerate(logits)])

    batch = Batch(
        images=None,
        features=torch.from_numpy(np.concatenate([image, target])),
        reference=torch.arange(BATCH),
        candidates=torch.arange(BATCH, 2 * BATCH),
        target=torch.arange(BATCH),
        excluded=torch.zeros(BATCH, BATCH, dtype=torch.bool),
        text=[""] * BATCH,
        tokens={"vectors": torch.from_numpy(text)},
    )
    composed = method.compose(torch.from_numpy(image), batch.tokens)
    assert np.allclose(composed.detach().numpy(), query, atol=1e-6)
    terms = method.loss_terms(batch)
    assert list(terms) == ["loss"]
    assert terms["loss"].item() == pytest.approx(loss, abs=1e-6)
