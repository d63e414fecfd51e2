"""The Combiner of CLIP4Cir, and two-stage training: sum first, then Combiner.

Source: Baldrati, Bertini, Uricchio, Del Bimbo, CLIP4Cir, TOMM 2023, arXiv 2308.11485.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor, nn

from cir_plugins import Features, Method, Plan

Stage = Literal["both", "sum", "combiner"]


class Combined(NamedTuple):
    """A combined query and its intermediate results.

    Attributes:
        joint: (..., 2P) projected text, then projected image.
        share: (..., 1) share of the text in the residual, in (0, 1).
        mixed: (..., D) output of the last layer, before the residual.
        query: (..., D) mixed + share * text + (1 - share) * image, not normalised.
    """

    joint: Tensor
    share: Tensor
    mixed: Tensor
    query: Tensor


class Combiner(nn.Module):
    """A query from image and text features: an MLP output plus a learned convex combination.

    The names of its layers are those of the official checkpoints.

    Args:
        size: D, length of a feature.
        projection: P, width of the projected features.
        hidden: Width of the two hidden layers.
        dropout: In [0, 1).

    Source: arXiv 2308.11485, section 3.3.
    """

    def __init__(self, size: int, projection: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.text_projection_layer = nn.Linear(size, projection)
        self.image_projection_layer = nn.Linear(size, projection)
        self.combiner_layer = nn.Linear(2 * projection, hidden)
        self.output_layer = nn.Linear(hidden, size)
        self.dynamic_scalar = nn.Sequential(
            nn.Linear(2 * projection, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
            nn.Sigmoid(),
        )
        self.dropout = nn.Dropout(dropout)

    def combine(self, image: Tensor, text: Tensor) -> Combined:
        """Queries and intermediate results from features (..., D) that are not normalised."""
        joint = torch.cat(
            [
                self.dropout(torch.relu(self.text_projection_layer(text))),
                self.dropout(torch.relu(self.image_projection_layer(image))),
            ],
            dim=-1,
        )
        share = self.dynamic_scalar(joint)
        mixed = self.output_layer(self.dropout(torch.relu(self.combiner_layer(joint))))
        return Combined(joint, share, mixed, mixed + share * text + (1 - share) * image)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Queries (..., D), not normalised, from features (..., D) that are not normalised."""
        return self.combine(image, text).query


class Composer(nn.Module):
    """Composition in two stages: the sum of image and text, then a Combiner on frozen features.

    The current stage is part of the state, so that loaded weights compose as in training.

    Args:
        stage: ``both``, or one of the two alone.
        sum_epochs: Epochs of the first stage where there are two.
        combiner: The Combiner; None in stage ``sum``.
    """

    combining: Tensor

    def __init__(self, stage: Stage, sum_epochs: int, combiner: Combiner | None) -> None:
        super().__init__()
        self.stage = stage
        self.sum_epochs = sum_epochs
        self.combiner = combiner
        self.register_buffer("combining", torch.tensor(stage == "combiner"))

    @property
    def combines(self) -> bool:
        """Whether the current stage is the second: Combiner on a frozen backbone."""
        return bool(self.combining)

    def start_epoch(self, epoch: int) -> None:
        """Set the stage of a 0-based epoch."""
        if self.stage == "both":
            self.combining.fill_(epoch >= self.sum_epochs)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Queries (..., D), not normalised, from features (..., D) that are not normalised."""
        if self.combiner is None or not self.combines:
            return image + text
        combined: Tensor = self.combiner(image, text)
        return combined


class TwoStages(Method):
    """A method that tunes its backbone under the sum and freezes it under a Combiner.

    Attributes:
        composer: The composition of the current stage, from ``make_composer``.
    """

    composer: Composer

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan's stages cannot be trained; "" where they can."""
        options = plan.method.options
        last = options["sum_epochs"] >= plan.train.epochs > 0
        if options["stage"] == "both" and last:
            return (
                f"sum_epochs {options['sum_epochs']} of {plan.train.epochs} epochs leave none for "
                "the Combiner; accepted: method.sum_epochs below train.epochs, or "
                "method.stage=sum"
            )
        return ""

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Set the stage of the epoch; the backbone is in evaluation mode in the second."""
        self.composer.start_epoch(epoch)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """This module in training mode, the backbone in evaluation mode under the Combiner."""
        super().train(mode)
        if self.composer.combines:
            self.backbone.eval()
        return self

    def tuning(self) -> AbstractContextManager[Any]:
        """Gradient context of the backbone: disabled under the Combiner."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.composer.combines)


def make_composer(
    backbone: Any, stage: Stage, sum_epochs: int, projection: int, hidden: int, dropout: float
) -> Composer:
    """The composer of a method over a backbone that offers ``raw_embeddings``.

    Args:
        backbone: A built backbone.
        stage: As for ``Composer``.
        sum_epochs: As for ``Composer``.
        projection: Width of the Combiner's projections; 0 for four times the features'.
        hidden: Width of its hidden layers; 0 for eight times the features'.
        dropout: Dropout of the Combiner.

    Raises:
        ValueError: If an option is out of range.
    """
    if sum_epochs < 1:
        raise ValueError(f"sum_epochs must be at least 1, not {sum_epochs}")
    if min(projection, hidden) < 0 or not 0 <= dropout < 1:
        raise ValueError("projection and hidden must be at least 0, and dropout in [0, 1)")
    if stage == "sum":
        return Composer(stage, sum_epochs, None)
    size = raw_size(backbone)
    combiner = Combiner(size, projection or 4 * size, hidden or 8 * size, dropout)
    return Composer(stage, sum_epochs, combiner)


def raw_image(backbone: Any, features: Features) -> Tensor:
    """Image embeddings (U, D), not normalised; the features themselves where nothing projects."""
    project = getattr(backbone, "raw_image", None)
    raw: Tensor = features if project is None else project(features)
    return raw


def raw_size(backbone: Any) -> int:
    """D, the length of a backbone's raw image embeddings, measured on one black picture."""
    weight = next(backbone.parameters())
    pixels = backbone.preprocess(Image.new("RGB", (8, 8)))[None]
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        raw = raw_image(backbone, backbone.features(pixels.to(weight.device, weight.dtype)))
    backbone.train(training)
    return int(raw.shape[-1])
