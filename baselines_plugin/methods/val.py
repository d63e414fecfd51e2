"""VAL: references composed with texts at three depths by attention, scored by the sum of cosines.

Source: Chen, Gong, Bazzani, Image Search with Text Feedback by Visiolinguistic Attention Learning,
CVPR 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from baselines_plugin.backbones.resnet import check_levels
from baselines_plugin.licences import LICENCES
from baselines_plugin.ranges import Dropout, Momentum, Temperature
from cir_plugins import (
    TEMPERATURE,
    Batch,
    Component,
    Components,
    Features,
    Method,
    Plan,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    select,
    unit,
)

_HEADS = 2
_LEVELS = ("low", "mid", "high")


class Attended(NamedTuple):
    """A composed map and its intermediate results.

    Attributes:
        fused: (B, C, h, w) image and text together.
        channel: (B, C, 1, 1) attention to channels.
        spatial: (B, 1, h, w) attention to positions.
        transformed: (B, C, h, w) self-attention over positions.
        out: (B, C, h, w).
    """

    fused: Tensor
    channel: Tensor
    spatial: Tensor
    transformed: Tensor
    out: Tensor


class NormedConv(nn.Module):
    """A convolution without bias and its batch norm, the output as large as the input.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Height and width of the kernel; an even side is padded by one more at the end.
        momentum: Weight of a batch in the running statistics.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], momentum: float) -> None:
        super().__init__()
        height, width = kernel[0] - 1, kernel[1] - 1
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False)
        nn.init.xavier_uniform_(self.conv.weight)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-5, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, outputs, h, w) of maps (B, inputs, h, w)."""
        result: Tensor = self.norm(self.conv(nn.functional.pad(x, self.padding)))
        return result


class SelfAttention(nn.Module):
    """Self-attention over the positions of a map, with two heads over half the channels each.

    Args:
        channels: Channels C of the map, even.
        dropout: Of the attention, in [0, 1).

    ``ask``, ``offer`` and ``give`` are the query, key and value projections; the official code
    swaps the names.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        size = channels // _HEADS

        def heads() -> nn.ModuleList:
            layers = [nn.Linear(size, size, bias=False) for _ in range(_HEADS)]
            for layer in layers:
                nn.init.xavier_uniform_(layer.weight)
            return nn.ModuleList(layers)

        self.ask, self.offer, self.give = heads(), heads(), heads()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w)."""
        heads = []
        for head, half in enumerate(x.flatten(2).transpose(1, 2).chunk(_HEADS, dim=2)):
            queries, keys = self.ask[head](half), self.offer[head](half)  # (B, hw, C/2)
            weights = (queries @ keys.transpose(1, 2) / half.shape[2] ** 0.5).softmax(dim=2)
            heads.append(self.dropout(weights) @ self.give[head](half))
        return torch.cat(heads, dim=2).transpose(1, 2).reshape(x.shape)


class AttentionComposer(nn.Module):
    """Composition at one level: the map, gated by joint attention, plus self-attention.

    out = keep * channel * spatial * map + change * self-attention, keep 1 and change 0 at first.

    Args:
        shape: (C, h, w) of the map.
        text_width: Size of the text's vector.
        gate_relu: Whether a ReLU stands before the two sigmoids, so that gates are at least 0.5:
            as in the official code, not in the paper.
        dropout: Of the self-attention, in [0, 1).
        momentum: Weight of a batch in the norms' running statistics.

    Source: Chen et al., VAL, CVPR 2020, section 3.2, and the released code.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        text_width: int,
        *,
        gate_relu: bool = True,
        dropout: Dropout = 0.1,
        momentum: float = 0.003,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        one = (1, 1)
        self.fuse = NormedConv(channels + text_width, channels, one, momentum)
        self.channel = NormedConv(channels, channels, one, momentum)
        self.spatial = NormedConv(1, 1, (height, width), momentum)
        self.attention = SelfAttention(channels, dropout)
        self.joined = NormedConv(channels, channels, one, momentum)
        self.keep = nn.Parameter(torch.tensor(1.0))
        self.change = nn.Parameter(torch.tensor(0.0))
        self.gate_relu = gate_relu

    def forward(self, x: Tensor, text: Tensor) -> Attended:
        """The composition of maps (B, C, h, w) and text vectors (B, E)."""
        tiled = text[..., None, None].expand(-1, -1, *x.shape[2:])
        fused = self.fuse(torch.cat([x, tiled], dim=1)).relu()
        channel = self._gate(self.channel(fused.mean(dim=(2, 3), keepdim=True)))
        spatial = self._gate(self.spatial(fused.mean(dim=1, keepdim=True)))
        transformed = self.joined(self.attention(fused)).relu()
        out = self.keep * channel * spatial * x + self.change * transformed
        return Attended(fused, channel, spatial, transformed, out)

    def _gate(self, logits: Tensor) -> Tensor:
        return (logits.relu() if self.gate_relu else logits).sigmoid()


class VAL(Method):
    """Visiolinguistic attention learning on three levels of feature maps.

    Args:
        components: Backbone with three levels of maps and text vectors, loss and sampler.
        gate_relu: Whether a ReLU stands before the gates' sigmoids, as in the official code.
        dropout: Of the self-attention, in [0, 1).
        norm_momentum: Weight of a batch in the running statistics of the new norms; 0.003 is
            TF-slim's decay 0.997, which needs thousands of steps.
        temperature: Start value of the temperature, for losses that use one.
        learn_temperature: Whether it is trained.

    Source: Chen, Gong, Bazzani, CVPR 2020, sections 3.1 to 3.4, and the released code. Its test
    reads words seen once in training as unknown (``seen_once``). No weights were released.
    Differs: reference and target share a batch norm's statistics, equal images of a batch are
    encoded once and are one column; scores are the mean of the three cosines, their sum divided
    by 3; the image network is timm's (see ``resnet``).
    """

    licences = LICENCES["val"]
    recipe = Recipe(
        source="Chen, Gong, Bazzani, VAL, CVPR 2020; released settings for FashionIQ, whose 50,000 "
        "nominal steps are 25,000 updates",
        backbone=Component(
            "resnet",
            {
                "model": "resnetv2_50",
                "width": 0,
                "levels": "three",
                "rule": "val",
                "word_width": 512,
                "state_width": 1024,
                "image_size": 256,
                "resize": "squash",
                "scale": "unit",
            },
        ),
        loss=Component("two_way_hinge"),
        train=TrainSettings(
            epochs=22,
            batch_size=32,
            drop_last=True,
            lr=2e-4,
            weight_decay=4e-5,
            optimizer="adam",
            augment="shift_crop_flip",
            known_positives="target",
            select="last",
            precision="fp32",
            ema=0.9999,
        ),
        schedule=ScheduleSettings(name="constant"),
        datasets={
            "fashioniq": {
                "data.gallery": "val",
                "data.drop_reference": True,
                "data.caption_mode": "single",
                "data.strip": False,
                "data.capitalise": False,
                "data.symbols": "words",
            }
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"feature_levels", "text_features"})

    def __init__(
        self,
        components: Components,
        *,
        gate_relu: bool = True,
        dropout: Dropout = 0.1,
        norm_momentum: Momentum = 0.003,
        temperature: Temperature = TEMPERATURE,
        learn_temperature: bool = True,
    ) -> None:
        learned = learn_temperature and bool(components.loss.scaled)
        super().__init__(components, temperature=temperature, learn_temperature=learned)
        self.composers = nn.ModuleList(
            AttentionComposer(
                shape,
                self.backbone.text_width,
                gate_relu=gate_relu,
                dropout=dropout,
                momentum=norm_momentum,
            )
            for shape in self.backbone.shapes
        )

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan's components cannot work together; "" where they can."""
        return check_levels(plan, "three")

    def levels(self, features: Features, tokens: Tokens | None = None) -> list[Tensor]:
        """One unit vector per image and level [(n, C), ...], composed with the tokens if any."""
        if tokens is None:
            return [unit(x.mean(dim=(2, 3))) for x in features]
        text = self.backbone.describe(tokens)
        composed = zip(self.composers, features, strict=True)
        return [unit(compose(x, text).out.mean(dim=(2, 3))) for compose, x in composed]

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """The composed levels side by side (B, D), unit length."""
        return unit(torch.cat(self.levels(features, tokens), dim=1))

    def encode_gallery(self, features: Features) -> Tensor:
        """The levels side by side (C, D), unit length."""
        return unit(torch.cat(self.levels(features), dim=1))

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """``low``, ``mid`` and ``high``: the loss of each level."""
        features = self.features(batch)
        queries = self.levels(select(features, batch.reference), batch.tokens)
        targets = self.levels(select(features, batch.candidates))
        scores = [query @ target.T for query, target in zip(queries, targets, strict=True)]
        negatives = self.negatives(torch.stack(scores).mean(dim=0), batch)
        return {
            name: self.reduce_loss(self.loss, cosines, batch.target, negatives)
            for name, cosines in zip(_LEVELS, scores, strict=True)
        }

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Convolutions with weight decay, as in TF-slim, everything else without."""
        decayed = {id(module.weight) for module in self.modules() if isinstance(module, nn.Conv2d)}
        # The projection of the texts is a 1x1 convolution in the official code.
        output = getattr(self.backbone.text, "output", None)
        if isinstance(output, nn.Linear):
            decayed.add(id(output.weight))
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in trained if id(p) in decayed], "lr": lr},
            {
                "params": [p for p in trained if id(p) not in decayed],
                "lr": lr,
                "weight_decay": 0.0,
            },
        ]
