"""Contrastive learning that spares the target's reciprocal neighbours.

Two images that are among each other's nearest neighbours often show the same thing. As negatives
of one another they push positives away; this method takes them out of the negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cir_plugins import (
    TEMPERATURE,
    Batch,
    Components,
    Factories,
    Features,
    Method,
    Recipe,
    ScheduleSettings,
    TrainSettings,
    hookimpl,
    unit,
)


def reciprocal_neighbours(vectors: Tensor, neighbours: int) -> Tensor:
    """Pairs (C, C) bool of different vectors that are both among the other's nearest.

    Args:
        vectors: (C, D) of unit length.
        neighbours: How many nearest vectors count, 0 or more; ties go to the lower index.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding,
        CVPR 2017, arXiv 1701.08398, equation 2.
    """
    size = len(vectors)
    itself = torch.eye(size, dtype=torch.bool, device=vectors.device)
    cosine = (vectors @ vectors.T).masked_fill(itself, -torch.inf)
    order = cosine.sort(dim=1, descending=True, stable=True).indices
    near = torch.zeros_like(itself).scatter(1, order[:, :neighbours], True) & ~itself
    return near & near.T


class Neighbours(Method):
    """Contrastive learning whose negatives leave out the target's reciprocal neighbours.

    Args:
        components: Backbone, loss and sampler.
        temperature: Start value of the temperature that scores are divided by, above 0.
        learn_temperature: Whether the temperature is trained.
        neighbours: How many nearest candidates of the batch count, 0 or more; 0 leaves nothing out.
    """

    recipe = Recipe(
        source="this example; k-reciprocal neighbours of Zhong et al. 2017, arXiv 1701.08398",
        train=TrainSettings(epochs=30, lr=5e-6),
        schedule=ScheduleSettings(floor=0.01),
    )

    def __init__(
        self,
        components: Components,
        *,
        temperature: float = TEMPERATURE,
        learn_temperature: bool = True,
        neighbours: int = 1,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        if neighbours < 0:
            raise ValueError(f"neighbours must be 0 or more, not {neighbours}")
        self.neighbours = neighbours

    def loss_terms_from(
        self, queries: Features, targets: Features, batch: Batch
    ) -> dict[str, Tensor]:
        """The contrastive loss by name; queries (B, D) and targets (C, ...) of the whole batch."""
        scores = self.similarity(queries, targets)
        # A candidate of several tokens is compared by their mean.
        vectors = targets.detach() if targets.dim() == 2 else unit(targets.detach().mean(1))
        twins = reciprocal_neighbours(vectors, self.neighbours)[batch.target]
        negatives = self.negatives(scores, batch) & ~twins
        return {"loss": self.reduce_loss(self.loss, scores, batch.target, negatives)}


@hookimpl
def cir_methods() -> Factories:
    """The methods of this plugin."""
    return {"neighbours": Neighbours}
