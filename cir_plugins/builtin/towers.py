"""Vision towers in place of BLIP-2's EVA ViT, under the same Q-Former."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

LN_VISION_EPS = 1e-5  # LAVIS' ln_vision; transformers would use the ViT's own 1e-6


class Tower(nn.Module):
    """A vision tower: states of an image, and the layer norm before the Q-Former.

    Args:
        width: Width W of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.post_layernorm = nn.LayerNorm(width, eps=LN_VISION_EPS)

    def states(self, images: Tensor, interpolate: bool) -> Tensor:
        """States (U, P, W) of images (U, 3, H, W), below the layer norm.

        ``interpolate`` is True to fit position embeddings to another image size.
        """
        raise ValueError(f"{type(self).__name__} has no states")


class ClipVisionTower(Tower):
    """A CLIP ViT without its final norm, under BLIP-2's trained vision layer norm (ViT-L variant).

    Args:
        config: Keyword arguments of ``transformers.CLIPVisionConfig``.

    Source: LAVIS' ``pretrain_vitL``, as used by QuRe and SPRC: CLIP ViT-L/14, 23 of 24 blocks.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        super().__init__(config["hidden_size"])
        self.clip = CLIPVisionModel(CLIPVisionConfig(**config))
        # Unused: the Q-Former takes the last state before it.
        self.clip.post_layernorm = nn.Identity()

    def states(self, images: Tensor, interpolate: bool) -> Tensor:
        """Last states (U, P, W), [CLS] first."""
        output = self.clip(images, interpolate_pos_encoding=interpolate)
        states: Tensor = output.last_hidden_state
        return states


class ResNetTower(Tower):
    """A small ResNet of timm with group norm: mean and positions of its last map as tokens.

    A ViT needs far more pictures than a drawn set has to learn shapes; a convolutional tower does
    not, and group norm keeps images of a batch independent.

    Args:
        config: ``stem`` (half the stem's channels), ``channels`` of the four stages, ``layers``
            (blocks per stage), ``groups``, ``output_stride``, ``hidden_size`` (the last of
            ``channels``), ``image_size``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from timm.models.resnet import BasicBlock, ResNet

        super().__init__(config["hidden_size"])
        groups = config["groups"]

        def norm(channels: int, **factory: Any) -> nn.GroupNorm:
            return nn.GroupNorm(groups, channels, **factory)

        self.resnet = ResNet(
            BasicBlock,
            list(config["layers"]),
            channels=tuple(config["channels"]),
            stem_type="deep",
            stem_width=config["stem"],
            num_classes=0,
            global_pool="",
            output_stride=config["output_stride"],
            norm_layer=norm,
        )
        side = config["image_size"] // config["output_stride"]
        self.position_embedding = nn.Parameter(torch.zeros(1, side * side, config["hidden_size"]))
        nn.init.normal_(self.position_embedding, std=0.02)

    def states(self, images: Tensor, interpolate: bool) -> Tensor:
        """The mean of the last map, then one state per position of it (U, 1 + P, W)."""
        grid = self.resnet(images.contiguous(memory_format=torch.channels_last))  # (U, W, h, w)
        positions: Tensor = grid.flatten(2).transpose(1, 2)
        mean = positions.mean(dim=1, keepdim=True)
        return torch.cat([mean, positions + self.position_embedding], dim=1)


TOWERS: Mapping[str, Callable[[Mapping[str, Any]], Tower]] = MappingProxyType(
    {"clip_vision_model": ClipVisionTower, "timm_resnet": ResNetTower}
)
