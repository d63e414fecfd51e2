"""Losses of metric learning: soft triplets (TIRG, ComposeAE) and a two-way hinge (VAL)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines_plugin.ranges import Weight
from cir_plugins import require_negatives

_MASKED = 1e8  # distance of a column that is no negative


def soft_triplet(
    vectors: Tensor, triplets: Tensor, gradient: Literal["half", "true"] = "half"
) -> Tensor:
    """Mean over triplets of log(1 + exp(D(anchor, positive) - D(anchor, negative))), a scalar.

    Args:
        vectors: (N, D); D(i, j) is their squared Euclidean distance.
        triplets: (n, 3) rows (anchor, positive, negative) of indices into the vectors.
        gradient: ``half`` the true one, as in the official code's hand-written backward pass, or
            ``true``. The value is the same.

    Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119, equation 3, and the released code.
    """
    anchor, positive, negative = (vectors[index] for index in triplets.unbind(dim=1))
    near = (anchor - positive).square().sum(dim=1)
    far = (anchor - negative).square().sum(dim=1)
    value = torch.nn.functional.softplus(near - far).mean()
    return value if gradient == "true" else (value + value.detach()) / 2


def draw_triplets(
    negatives: Tensor, per_anchor: int = 3, generator: torch.Generator | None = None
) -> Tensor:
    """Random triplets (n, 3) of 2B vectors, of which i and i + B are a pair.

    Every vector is an anchor, its partner the positive. ``per_anchor`` of its negatives are drawn,
    or all where there are fewer.

    Args:
        negatives: (2B, 2B) bool, negatives of each vector.
        per_anchor: Triplets per anchor, at least 1.
        generator: Generator of the draws; None for torch's default.

    Raises:
        ValueError: If no vector has a negative.

    Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119, section 3.4.
    """
    require_negatives(negatives)
    count = len(negatives)
    draws = torch.rand(count, count, generator=generator).to(negatives.device)
    order = draws.masked_fill(~negatives, 2.0).argsort(dim=1)[:, :per_anchor]  # (2B, k)
    anchors = torch.arange(count, device=negatives.device)[:, None].expand_as(order)
    valid = negatives.gather(1, order)
    partner = (anchors + count // 2) % count
    return torch.stack([anchors, partner, order], dim=2)[valid]


def pair_negatives(negatives: Tensor) -> Tensor:
    """Negatives (2B, 2B) among queries and targets together, from those of the queries (B, B).

    Two pairs are negatives of each other where each target is a negative of the other query.
    """
    both = negatives & negatives.T
    return both.repeat(2, 2)


class TwoWayHinge:
    """Two-way hinge on the hardest negative: query to targets and target to queries.

    With D_ij the squared distance of query i and the target of query j,
    [D_ii - min_j D_ij + margin]+ + [D_ii - min_j D_ji + margin]+, the minima over semi-hard j.

    Args:
        margin: In squared distance, which is twice the cosine; at least 0.
        semi_hard: Candidates j of the minima. ``column``: those at least as far as the column's
            pair (D_ij >= D_jj; D_ji >= D_jj), as in the official code. ``row``: at least as far as
            the row's pair (D_ij >= D_ii; D_ji >= D_ii), as in the paper. ``none``: all.

    In-batch only: its columns are the targets of the batch's queries, and mined negatives have no
    query. Batch-dependent: the loss of a query depends on the other queries.

    Source: Chen, Gong, Bazzani, VAL, CVPR 2020, section 3.4, and the released code.
    """

    scaled: ClassVar[bool] = False
    batch_dependent: ClassVar[bool] = True
    in_batch_only: ClassVar[bool] = True

    def __init__(
        self, *, margin: Weight = 0.2, semi_hard: Literal["column", "row", "none"] = "column"
    ) -> None:
        if margin < 0:
            raise ValueError(f"margin must be at least 0, not {margin}")
        self.margin = margin
        self.semi_hard = semi_hard

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Loss (B,) of cosines (B, C)."""
        require_negatives(negatives)
        distances = 2 - 2 * scores.float()[:, target]  # (B, B)
        allowed = negatives[:, target]
        forward = self._direction(distances, allowed)
        backward = self._direction(distances.T, allowed.T)
        return (forward + backward) * negatives.any(dim=1)

    def _direction(self, distances: Tensor, allowed: Tensor) -> Tensor:
        positive = distances.diagonal()
        if self.semi_hard == "column":
            allowed = allowed & (distances >= positive[None])
        elif self.semi_hard == "row":
            allowed = allowed & (distances >= positive[:, None])
        nearest = distances.masked_fill(~allowed, _MASKED).amin(dim=1)
        return torch.relu(positive - nearest + self.margin)
