"""MGUR's uncertainty: targets with noise of their own spread, and a regularised loss.

Source: Chen, Zheng, Ji, Qu, Chua, Composed Image Retrieval with Text Feedback via Multi-grained
Uncertainty Regularization, ICLR 2024, arXiv 2211.07394, section 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from baselines_plugin.parts.compositor import instance_normalise


class Noised(NamedTuple):
    """Noised vectors (n, D), and the noise.

    Attributes:
        normalised: (n, D) each vector with mean 0 and variance 1 over its entries.
        alpha: (n, D) drawn factors, without gradient.
        beta: (n, D) drawn offsets, without gradient.
        out: (n, D) alpha · normalised + beta.
        spread: Standard deviation over all n·D entries of ``out``, a scalar; gradients pass.
    """

    normalised: Tensor
    alpha: Tensor
    beta: Tensor
    out: Tensor
    spread: Tensor


def noised(
    vectors: Tensor,
    *,
    alpha_scale: float = 1.0,
    beta_scale: float = 1.0,
    noise: tuple[Tensor, Tensor] | None = None,
) -> Noised:
    """Noised vectors: normalised, times factors around 1, plus offsets around their mean.

    With m and s mean and unbiased deviation of a vector over its D entries, alpha is drawn from
    N(1, s) and beta from N(m, s), independently for each entry. The scales multiply the draws,
    the mean included.

    Args:
        vectors: (n, D), D at least 2, of any length; the noise is meant for length 4.
        alpha_scale: Multiplies the factors.
        beta_scale: Multiplies the offsets.
        noise: Standard normal numbers (n, D) for the factors and for the offsets; by default
            drawn from torch's generator.
    """
    values = vectors.float()
    for_alpha, for_beta = noise or (torch.randn_like(values), torch.randn_like(values))
    with torch.no_grad():
        deviation, mean = torch.std_mean(values, dim=1, correction=1, keepdim=True)
        alpha = (1 + deviation * for_alpha) * alpha_scale
        beta = (mean + deviation * for_beta) * beta_scale
    normalised = instance_normalise(values)
    out = alpha * normalised + beta
    return Noised(normalised, alpha, beta, out, out.std(correction=1))


def under_uncertainty(loss: Tensor, spread: Tensor) -> Tensor:
    """A loss regularised by an uncertainty: (exp(-spread) · loss + spread) / 2."""
    return ((-spread).exp() * loss + spread) / 2


def epoch_weight(epoch: int, epochs: int, scale: float = 1.0) -> float:
    """Weight in (0, 1] of the uncertain term at a 0-based epoch: exp(-scale · epoch / epochs)."""
    return math.exp(-scale * epoch / epochs)
