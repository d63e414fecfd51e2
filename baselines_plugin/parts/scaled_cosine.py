"""Cosine scores with a learned scale, and the two training losses of TIRG and ComposeAE."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import check_levels
from baselines_plugin.parts.metric_losses import draw_triplets, pair_negatives, soft_triplet
from cir_plugins import Batch, Components, Method, Plan, ScheduleSettings, TrainSettings, unit

Objective = Literal["classification", "soft_triplet"]
# Both repositories' settings for Fashion200k.
FASHION200K = TrainSettings(
    epochs=30,
    batch_size=32,
    drop_last=True,
    lr=0.01,
    weight_decay=1e-6,
    optimizer="sgd",
    known_positives="target",
    select="last",
    precision="fp32",
)
FASHION200K_SCHEDULE = ScheduleSettings(name="step", milestones=(9, 19, 28))
_SCALE = 4.0  # start value of s; logits are s² times the cosine


class ScaledCosine(Method):
    """Contrastive learning on s·v/|v| of queries and targets, with one learned s for both.

    Args:
        components: Backbone with feature maps and text vectors, loss and sampler.
        objective: ``classification``: the ``loss`` component, on scores over 1/s².
            ``soft_triplet``: soft triplets drawn among the batch's queries and targets.
        gradient: Of soft triplets: ``half``, as in the official code, or ``true``.
        per_anchor: Soft triplets drawn per query and target.
        trunk_rate: Learning rate of the ResNet below its head, as a share of the others'.

    Source: Vo et al., TIRG, CVPR 2019, arXiv 1812.07119, section 3.4.
    Differs: equal images of a batch are one column; the official code pairs row i with column i
    and takes duplicates of a target as negatives.
    """

    needs = frozenset({"feature_map", "text_features"})

    def __init__(
        self,
        components: Components,
        *,
        objective: Objective = "classification",
        gradient: Literal["half", "true"] = "half",
        per_anchor: int = 3,
        trunk_rate: float = 0.1,
    ) -> None:
        super().__init__(components)
        if per_anchor < 1:
            raise ValueError(f"per_anchor must be at least 1, not {per_anchor}")
        del self.log_temperature
        self.norm_s = nn.Parameter(torch.full((1,), _SCALE))
        self.objective = objective
        self.gradient = gradient
        self.per_anchor = per_anchor
        self.trunk_rate = trunk_rate

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan's components cannot work together; "" where they can."""
        if plan.method.options.get("objective") == "soft_triplet":
            if plan.loss.name != "info_nce":
                return (
                    f"objective 'soft_triplet' leaves loss '{plan.loss.name}' unused; "
                    "accepted: method.objective=classification"
                )
            if plan.mining.negatives != "batch":
                return (
                    "objective 'soft_triplet' draws triplets from the batch alone; accepted: "
                    "mining.negatives=batch, or method.objective=classification"
                )
        return check_levels(plan, "last")

    @property
    def temperature(self) -> Tensor:
        """1/s², a scalar."""
        return self.norm_s.square().reciprocal().squeeze()

    def scaled(self, vectors: Tensor) -> Tensor:
        """Vectors (n, D) at length s."""
        return self.norm_s * unit(vectors)

    def objective_loss(
        self, query: Tensor, target: Tensor, column: Tensor, negatives: Tensor
    ) -> Tensor:
        """The objective, a scalar, of queries (B, D) and targets (C, D) of any length.

        Args:
            query: (B, D).
            target: (C, D).
            column: (B,) column of each query's target.
            negatives: (B, C) bool.
        """
        if self.objective == "soft_triplet":
            triplets = draw_triplets(pair_negatives(negatives[:, column]), self.per_anchor)
            return self.triplet_loss(query, target[column], triplets)
        scores = unit(query) @ unit(target).T
        return self.reduce_loss(self.loss, scores, column, negatives)

    def batch_loss(self, composed: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """The objective, a scalar, of a batch's compositions (B, D) and targets (C, D)."""
        negatives = self.negatives(unit(composed) @ unit(target).T, batch)
        return self.objective_loss(composed, target, batch.target, negatives)

    def triplet_loss(self, query: Tensor, target: Tensor, triplets: Tensor) -> Tensor:
        """Soft triplet loss, a scalar, of queries and targets (B, D) stacked."""
        stacked = self.scaled(torch.cat([query, target]))
        return soft_triplet(stacked, triplets, self.gradient)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The ResNet at ``trunk_rate`` times the rate, everything else at the rate."""
        trunk = {id(parameter) for parameter in self.backbone.trunk.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in trained if id(p) not in trunk], "lr": lr},
            {"params": [p for p in trained if id(p) in trunk], "lr": lr * self.trunk_rate},
        ]
