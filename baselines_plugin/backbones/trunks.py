"""Image networks of timm without their heads: the last feature map, or maps at three depths."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from cir_plugins import WEIGHTS, CIRError, hub_asked_once, load_untrusted, unknown_name

Shapes = tuple[tuple[int, int, int], ...]

# Architecture of tiny_blip2's tower, with the start weights of tiny_resnet.
_STEM, _CHANNELS, _BLOCKS, _GROUPS, _STRIDE = 8, (24, 48, 96, 128), (1, 1, 1, 1), 8, 8
_TOWER = "vision_model.resnet."
# Weight of a batch in VAL's new norms: TF-slim's decay of 0.997.
NORM_MOMENTUM = 0.003


class Levels(NamedTuple):
    """Maps of an image at three depths, (U, C, h, w) each."""

    low: Tensor
    mid: Tensor
    high: Tensor


class LevelTrunk(nn.Module):
    """The maps after the last three stages of a ResNet.

    Args:
        network: A ResNet of timm. A pre-activation one gets a norm and a ReLU on each of the two
            maps before its last, as in VAL.
        thin: Whether the first two maps are subsampled by 2 in both directions.
        momentum: Weight of a batch in the running statistics of those norms.

    Source: Chen, Gong, Bazzani, VAL, CVPR 2020, section 3.1.
    """

    def __init__(self, network: Any, *, thin: bool, momentum: float = NORM_MOMENTUM) -> None:
        super().__init__()
        self.network = network
        self.step = 2 if thin else 1
        self.norms = nn.ModuleList()
        if hasattr(network, "stages"):
            for stage in (1, 2):
                channels = int(network.stages[stage].blocks[-1].conv3.out_channels)
                norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=momentum)
                self.norms.append(nn.Sequential(norm, nn.ReLU()))

    def forward(self, images: Tensor) -> Levels:
        """Three maps of images (U, 3, H, W)."""
        low, mid, high = self._stages(images)
        low, mid = (level[..., :: self.step, :: self.step] for level in (low, mid))
        if self.norms:
            low, mid = self.norms[0](low), self.norms[1](mid)
        return Levels(low, mid, high)

    def _stages(self, images: Tensor) -> list[Tensor]:
        network: Any = self.network
        if hasattr(network, "stages"):
            x, maps = network.stem(images), []
            for stage in network.stages:
                x = stage(x)
                maps.append(x)
            return [*maps[1:3], network.norm(x)]
        x = network.maxpool(network.act1(network.bn1(network.conv1(images))))
        maps = []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
            maps.append(x)
        return maps[1:]


def build_trunk(
    name: str,
    weights: str,
    levels: Literal["last", "three"],
    last_stride: int,
    side: int,
    norm_momentum: float = NORM_MOMENTUM,
) -> tuple[nn.Module, Shapes]:
    """A ResNet of timm without its head, and the shape (C, h, w) of each of its maps.

    Args:
        name: Name in timm.
        weights: ``pretrained``, ``random`` or a local file.
        levels: ``last`` or ``three`` maps.
        last_stride: 1 to remove the stride of the last stage.
        side: Side of the images in pixels.
        norm_momentum: As for ``LevelTrunk``.

    Raises:
        CIRError: If there is no such network, or its weights cannot be loaded.
    """
    network = _network(name, weights)
    if last_stride == 1:
        _remove_stride(network)
    if levels == "last":
        return network, _shapes(network, side)
    trunk = LevelTrunk(network, thin=True, momentum=norm_momentum)
    return trunk, _shapes(trunk, side)


def tiny_trunk(
    start: Literal["drawn", "random"], levels: Literal["last", "three"], side: int
) -> tuple[nn.Module, Shapes]:
    """The small ResNet with group norm, and the shape (C, h, w) of each of its maps.

    Raises:
        CIRError: If the project's weights are missing or do not fit.
    """
    from timm.models.resnet import BasicBlock
    from timm.models.resnet import ResNet as Network

    def norm(channels: int, **factory: Any) -> nn.GroupNorm:
        return nn.GroupNorm(_GROUPS, channels, **factory)

    network = Network(
        BasicBlock,
        list(_BLOCKS),
        channels=_CHANNELS,
        stem_type="deep",
        stem_width=_STEM,
        num_classes=0,
        global_pool="",
        output_stride=_STRIDE,
        norm_layer=norm,
    )
    if start == "drawn":
        file = WEIGHTS / "tiny_blip2" / "model.safetensors"
        state = load_untrusted(file)
        tower = {k.removeprefix(_TOWER): v for k, v in state.items() if k.startswith(_TOWER)}
        _load(network, tower, str(file))
    trunk = network if levels == "last" else LevelTrunk(network, thin=False)
    return trunk, _shapes(trunk, side)


def _network(name: str, weights: str) -> Any:
    import timm
    from timm.models.resnet import ResNet as Network
    from timm.models.resnetv2 import ResNetV2

    if not timm.is_model(name):
        raise unknown_name("network of timm", name, timm.list_models("resnet*"))
    try:
        pretrained = weights == "pretrained"
        with hub_asked_once() if pretrained else nullcontext():
            network = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    except (RuntimeError, OSError, ValueError) as error:
        raise CIRError(
            f"weights of '{name}' could not be loaded: {str(error).splitlines()[0]}\n"
            "accepted as weights: pretrained, random, or a local file; without a network also "
            "backbone=tiny_resnet"
        ) from error
    if not isinstance(network, Network | ResNetV2):
        raise CIRError(f"'{name}' is no ResNet; accepted: a ResNet of timm, such as resnet50")
    if weights not in ("pretrained", "random"):
        state = load_untrusted(Path(weights))
        _load(network, {k: v for k, v in state.items() if not k.startswith("fc.")}, weights)
    return network


def _load(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise CIRError(f"weights {where} do not fit the network: {' '.join(lines)}") from error


def _remove_stride(network: Any) -> None:
    """Remove the stride of the last stage, without dilation."""
    last = network.layer4 if hasattr(network, "layer4") else network.stages[-1]
    for module in last.modules():
        if isinstance(module, nn.Conv2d | nn.AvgPool2d) and module.stride in (2, (2, 2)):
            module.stride = (1, 1)


@torch.no_grad()
def _shapes(trunk: nn.Module, side: int) -> Shapes:
    trunk.eval()
    maps = trunk(torch.zeros(1, 3, side, side))
    trunk.train()
    levels = (maps,) if isinstance(maps, Tensor) else maps
    return tuple((level.shape[1], level.shape[2], level.shape[3]) for level in levels)
