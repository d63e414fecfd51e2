"""Losses of metric learning: soft triplets (TIRG, ComposeAE) and a two-way hinge (VAL)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from cir_plugins import require_negatives

_NOTHING = 1e8  # stands for the distance of a column that may not be a negative


def soft_triplet(
    vectors: Tensor, triplets: Tensor, gradient: Literal["half", "true"] = "half"
) -> Tensor:
    """Mean over triplets of log(1 + exp(D(anchor, positive) - D(anchor, negative))), a scalar.

    Args:
        vectors: (N, D); D(i, j) is their squared Euclidean distance.
        triplets: (n, 3) rows (anchor, positive, negative) of indices into the vectors.
        gradient: ``half`` of the loss's own, which the official code's hand-written backward pass
            gives, or the ``true`` one. The value is the same.

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
    """Triplets (n, 3) of 2B vectors, of which i and i + B belong together.

    Every vector is an anchor, its partner the positive; ``per_anchor`` of its negatives are drawn
    (all, where there are fewer).

    Args:
        negatives: (2B, 2B) bool, which vector may be a negative of which.
        per_anchor: Triplets per anchor, at least 1.
        generator: Every draw comes from it; None for torch's own.

    Raises:
        ValueError: If no vector has a negative.

    Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119, section 3.4.
    """
    require_negatives(negatives)
    count = len(negatives)
    chance = torch.rand(count, count, generator=generator).to(negatives.device)
    order = chance.masked_fill(~negatives, 2.0).argsort(dim=1)[:, :per_anchor]  # (2B, k)
    anchors = torch.arange(count, device=negatives.device)[:, None].expand_as(order)
    kept = negatives.gather(1, order)
    partner = (anchors + count // 2) % count
    return torch.stack([anchors, partner, order], dim=2)[kept]


def pair_negatives(negatives: Tensor) -> Tensor:
    """Negatives (2B, 2B) among queries and targets together, from those of the queries (B, B).

    Two of them are negatives of one another where either's target is a negative of both queries.
    """
    both = negatives & negatives.T
    return both.repeat(2, 2)


class TwoWayHinge:
    """Hinge on the hardest allowed negative, from query to targets and from target to queries.

    With D_ij the squared distance of query i and the target of query j,
    [D_ii - min_j D_ij + margin]+ + [D_ii - min_j D_ji + margin]+, the minima over semi-hard j.

    Args:
        margin: In squared distance, which is twice the cosine; at least 0.
        semi_hard: Which j count. ``column``: those at least as far as the pair of the column is
            (D_ij >= D_jj; D_ji >= D_jj), as the official code has it. ``row``: at least as far as
            the row's own pair (D_ij >= D_ii; D_ji >= D_ii), as the paper means it. ``none``: all.

    Only the targets of the batch's queries are columns; mined ones have no query to ask back. The
    price of a row depends on the other rows.

    Source: Chen, Gong, Bazzani, VAL, CVPR 2020, section 3.4, and the released code.
    """

    scaled: ClassVar[bool] = False
    batch_dependent: ClassVar[bool] = True  # a row's price depends on the other rows
    in_batch_only: ClassVar[bool] = True

    def __init__(
        self, *, margin: float = 0.2, semi_hard: Literal["column", "row", "none"] = "column"
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
        there = self._direction(distances, allowed)
        back = self._direction(distances.T, allowed.T)
        return (there + back) * negatives.any(dim=1)

    def _direction(self, distances: Tensor, allowed: Tensor) -> Tensor:
        own = distances.diagonal()
        if self.semi_hard == "column":
            allowed = allowed & (distances >= own[None])
        elif self.semi_hard == "row":
            allowed = allowed & (distances >= own[:, None])
        nearest = distances.masked_fill(~allowed, _NOTHING).amin(dim=1)
        return torch.relu(own - nearest + self.margin)
