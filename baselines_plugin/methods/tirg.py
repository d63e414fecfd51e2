"""TIRG: reference features, gated and shifted by the text.

Source: Vo, Jiang, Sun, Murphy, Li, Fei-Fei, Hays, Composing Text and Image for Image Retrieval,
CVPR 2019, arXiv 1812.07119, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from baselines_plugin.checkpoints.tirg import (
    IMAGE_RULES,
    LSTM_RULES,
    Rules,
    check_variant,
    renamed,
)
from baselines_plugin.checkpoints.vocabulary import words_of_texts
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.scaled_cosine import (
    FASHION200K,
    FASHION200K_SCHEDULE,
    Objective,
    ScaledCosine,
)
from baselines_plugin.ranges import Dropout, PerAnchor, Rate
from cir_plugins import (
    Batch,
    Component,
    Components,
    Features,
    Method,
    Official,
    Recipe,
    Tokens,
    select,
    unit,
)

Variant = Literal["tirg", "lastconv", "concat", "image_only", "text_only"]
# Weights of gate and residual at the start; the official vector has two more that nothing uses.
_WEIGHTS = (1.0, 10.0, 1.0, 1.0)


class Gated(NamedTuple):
    """A composition with its gate and residual.

    Attributes:
        gate: Before the sigmoid.
        residual: Before its weight.
        out: weight 0 * sigmoid(gate) * image + weight 1 * residual.
    """

    gate: Tensor
    residual: Tensor
    out: Tensor


class GateAndResidual(nn.Module):
    """Gate and residual of an image (B, C, ...) from image and text joined on the channels.

    Args:
        gate: The joined input to the gate, before its sigmoid.
        residual: The joined input to the residual.
    """

    def __init__(self, gate: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.residual = residual
        self.weights = nn.Parameter(torch.tensor(_WEIGHTS))

    def forward(self, image: Tensor, text: Tensor) -> Gated:
        """Compositions of images (B, C, ...) with texts (B, E), the same at every position."""
        grid = image.shape[2:]
        tiled = text.reshape(*text.shape, *(1 for _ in grid)).expand(-1, -1, *grid)
        joined = torch.cat([image, tiled], dim=1)
        gate, residual = self.gate(joined), self.residual(joined)
        gated = self.weights[0] * gate.sigmoid() * image
        return Gated(gate, residual, gated + self.weights[1] * residual)


def vector_composer(width: int, text_width: int) -> GateAndResidual:
    """TIRG on vectors (B, width) of the image's head."""
    joined = width + text_width
    gate = nn.Sequential(nn.BatchNorm1d(joined), nn.ReLU(), nn.Linear(joined, width))
    residual = nn.Sequential(
        nn.BatchNorm1d(joined),
        nn.ReLU(),
        nn.Linear(joined, joined),
        nn.ReLU(),
        nn.Linear(joined, width),
    )
    return GateAndResidual(gate, residual)


def map_composer(channels: int, text_width: int) -> GateAndResidual:
    """TIRG on feature maps (B, channels, h, w)."""
    joined = channels + text_width

    def stack() -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm2d(joined),
            nn.Conv2d(joined, joined, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(joined, channels, 3, padding=1),
        )

    return GateAndResidual(stack(), stack())


class Joined(nn.Module):
    """The concatenation baseline of the paper: image and text vector through two layers.

    Args:
        width: Size of the image's vector and of the composition.
        text_width: Size of the text's vector.
        dropout: Before the last layer, in [0, 1).
    """

    def __init__(self, width: int, text_width: int, dropout: float) -> None:
        super().__init__()
        joined = width + text_width
        self.layers = nn.Sequential(
            nn.BatchNorm1d(joined),
            nn.ReLU(),
            nn.Linear(joined, joined),
            nn.BatchNorm1d(joined),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(joined, width),
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Compositions (B, width)."""
        result: Tensor = self.layers(torch.cat([image, text], dim=1))
        return result


class Alone(nn.Module):
    """The single-input baselines of the paper: the image's or the text's vector unchanged.

    Args:
        text: True for the text's vector, False for the image's.
    """

    def __init__(self, *, text: bool) -> None:
        super().__init__()
        self.text = text

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Vectors (B, width) of the images or (B, text_width) of the texts."""
        return text if self.text else image


RULES: Mapping[Variant, Rules] = {
    "tirg": (
        ("a", "composer.weights"),
        (r"gated_feature_composer\.1\.(.+)", r"composer.gate.0.\1"),
        (r"gated_feature_composer\.3\.(.+)", r"composer.gate.2.\1"),
        (r"res_info_composer\.1\.(.+)", r"composer.residual.0.\1"),
        (r"res_info_composer\.3\.(.+)", r"composer.residual.2.\1"),
        (r"res_info_composer\.5\.(.+)", r"composer.residual.4.\1"),
    ),
    "lastconv": (
        ("a", "composer.weights"),
        (r"mod2d_gate\.(.+)", r"composer.gate.\1"),
        (r"mod2d\.(.+)", r"composer.residual.\1"),
    ),
    "concat": ((r"composer\.m\.(.+)", r"composer.layers.\1"),),
    "image_only": (),
    "text_only": (),
}
_MARKS = MappingProxyType(
    {"tirg": "gated_feature_composer.", "lastconv": "mod2d.", "concat": "composer."}
)


def make_composer(variant: Variant, backbone: Any, dropout: float) -> nn.Module:
    """The composition module of a variant, for a backbone with feature maps and text vectors.

    Args:
        variant: As for ``TIRG``.
        backbone: Its ``width``, ``text_width`` and ``channels`` are the sizes.
        dropout: Of ``concat``.

    Raises:
        ValueError: If the variant is ``text_only`` and texts differ from targets in size.
    """
    width, text_width = backbone.width, backbone.text_width
    if variant == "concat":
        return Joined(width, text_width, dropout)
    if variant == "lastconv":
        return map_composer(backbone.channels, text_width)
    if variant == "tirg":
        return vector_composer(width, text_width)
    if variant == "text_only" and text_width != width:
        raise ValueError(
            f"variant 'text_only' compares texts of {text_width} values with images of {width}; "
            "accepted: one size for both"
        )
    return Alone(text=variant == "text_only")


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``TIRG`` from a released checkpoint, without a vocabulary.

    The words come from the training texts (see ``words_of_texts``).

    Raises:
        CIRError: If the checkpoint holds no model, an unknown key, or another variant.
    """
    variant: Variant = method.variant  # type: ignore[assignment]
    check_variant(checkpoints, variant, _MARKS)
    return renamed(checkpoints, (*IMAGE_RULES, *LSTM_RULES, *RULES[variant]))


class TIRG(ScaledCosine):
    """Text-image residual gating.

    Args:
        components: Backbone with feature maps and text vectors, loss and sampler.
        variant: ``tirg`` on the image's vector, ``lastconv`` on its last map, or a baseline of the
            paper: ``concat`` joins the two vectors, ``image_only`` and ``text_only`` take one.
        dropout: Of ``concat``, in [0, 1).
        objective: As for ``ScaledCosine``.
        gradient: Of soft triplets.
        per_anchor: Soft triplets drawn per query and target.
        trunk_rate: Learning rate of the ResNet below its head, as a share of the others' (1 for
            CSS3D).

    Source: Vo et al., arXiv 1812.07119, equations 1 and 2, and the released code and weights.
    """

    licences = LICENCES["tirg"]
    recipe = Recipe(
        source="Vo et al., TIRG, CVPR 2019, arXiv 1812.07119; settings for Fashion200k, 160,000 "
        "steps of 32 of its 172,049 images",
        backbone=Component("resnet"),
        train=FASHION200K,
        schedule=FASHION200K_SCHEDULE,
    )
    official: ClassVar[Official] = staticmethod(official_state)
    official_files: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = MappingProxyType(
        {".txt": words_of_texts}
    )

    def __init__(
        self,
        components: Components,
        *,
        variant: Variant = "tirg",
        dropout: Dropout = 0.1,
        objective: Objective = "classification",
        gradient: Literal["half", "true"] = "half",
        per_anchor: PerAnchor = 3,
        trunk_rate: Rate = 0.1,
    ) -> None:
        super().__init__(
            components,
            objective=objective,
            gradient=gradient,
            per_anchor=per_anchor,
            trunk_rate=trunk_rate,
        )
        self.variant = variant
        self.composer = make_composer(variant, self.backbone, dropout)

    def compose(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Compositions (B, D), not normalised, of references' maps and token tensors."""
        text = self.backbone.describe(tokens)
        if self.variant == "lastconv":
            return self._project(self.composer(features, text).out)
        composed = self.composer(self._project(features), text)
        return composed.out if isinstance(composed, Gated) else composed

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Queries (B, D) of unit length."""
        return unit(self.compose(features, tokens))

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: the objective."""
        features = self.features(batch)
        composed = self.compose(select(features, batch.reference), batch.tokens)
        targets = self._project(select(features, batch.candidates))
        return {"loss": self.batch_loss(composed, targets, batch)}

    def _project(self, features: Tensor) -> Tensor:
        projected: Tensor = self.backbone.project(features)
        return projected
