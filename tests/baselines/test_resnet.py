from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from baselines_plugin.backbones.resnet import MapBackbone, ResNet, TinyResNet
from baselines_plugin.backbones.text_encoders import LstmText
from baselines_plugin.backbones.trunks import Levels
from cir_plugins import WEIGHTS, CIRError, Preprocess
from cir_plugins.testing import check_backbone

WORDS = ("is", "red", "shorter", "sleeves", "with")


@pytest.mark.parametrize("rule", ["tirg", "cosmo", "val"])
@pytest.mark.parametrize("vision", ["trained", "frozen"])
def test_contract_with_an_lstm(rule: str, vision: str) -> None:
    backbone = TinyResNet(start="random", vocabulary=WORDS, rule=rule, vision=vision)  # type: ignore[arg-type]
    check_backbone(backbone)
    assert backbone.frozen_features is (vision == "frozen")


@pytest.mark.parametrize("text", ["bert", "roberta"])
def test_contract_with_a_transformer(text: str) -> None:
    check_backbone(TinyResNet(start="random", text=text))  # type: ignore[arg-type]


def test_the_full_class_keeps_the_contract(tmp_path: Path) -> None:
    backbone = ResNet(
        weights="random", image_size=32, width=8, text_width=8, word_width=8, vocabulary=WORDS
    )
    check_backbone(backbone)
    assert backbone.shapes == ((512, 1, 1),)


def test_the_head_takes_the_maps_average() -> None:
    text = LstmText(WORDS, "tirg", word_width=4, state_width=4, width=2)
    backbone = MapBackbone(nn.Identity(), text, channels=3, width=2, preprocess=Preprocess())
    head: Any = backbone.head
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0]]))
        head.bias.copy_(torch.tensor([0.0, 1.0]))
    maps = torch.arange(12.0).view(1, 3, 2, 2)
    assert backbone.project(maps).tolist() == [[1.5, 2 * 5.5 + 1]]
    assert torch.equal(backbone.project(Levels(maps, maps, maps)), backbone.project(maps))
    without = MapBackbone(nn.Identity(), text, channels=3, width=0, preprocess=Preprocess())
    assert without.width == 3
    assert without.project(maps).tolist() == [[1.5, 5.5, 9.5]]


def test_texts_and_images_need_one_size() -> None:
    backbone = TinyResNet(start="random", vocabulary=WORDS, width=8, text_width=6)
    tokens = backbone.tokenize(["red"])
    with pytest.raises(CIRError, match="texts have 6 values and images 8"):
        backbone.encode_query(torch.zeros(1, 128, 8, 8), tokens)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({"model": "resnet18"}, ((512, 7, 7),)),
        ({"model": "resnet50"}, ((2048, 7, 7),)),
        ({"model": "resnet50", "layer4_stride": 1}, ((2048, 14, 14),)),
        ({"model": "resnet18", "layer4_stride": 1}, ((512, 14, 14),)),
        ({"model": "resnet18", "levels": "three"}, ((128, 14, 14), (256, 7, 7), (512, 7, 7))),
    ],
)
def test_published_map_sizes(options: dict[str, object], shapes: tuple[object, ...]) -> None:
    with torch.device("meta"):
        backbone = ResNet(weights="random", vocabulary=WORDS, **options)  # type: ignore[arg-type]
    assert backbone.shapes == shapes


def test_removing_the_stride_adds_no_dilation() -> None:
    with torch.device("meta"):
        backbone = ResNet(model="resnet50", weights="random", layer4_stride=1, vocabulary=WORDS)
    last: Any = backbone.trunk.layer4
    convolutions = [module for module in last.modules() if isinstance(module, nn.Conv2d)]
    assert {module.stride for module in convolutions} == {(1, 1)}
    assert {module.dilation for module in convolutions} == {(1, 1)}


def test_a_torchvision_file_is_taken_as_it_is(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    official = torchvision.models.resnet18(weights=None).eval()
    file = tmp_path / "resnet18.safetensors"
    save_file(official.state_dict(), str(file))
    backbone = ResNet(weights=str(file), image_size=64, vocabulary=WORDS).eval()
    images = torch.randn(2, 3, 64, 64)
    until = nn.Sequential(*list(official.children())[:-2])
    with torch.no_grad():
        assert torch.allclose(backbone.features(images), until(images), atol=1e-5)
    with pytest.raises(CIRError, match=r"do not fit the network: Missing key"):
        ResNet(model="resnet50", weights=str(file), vocabulary=WORDS)


def test_other_networks_are_errors(tmp_path: Path) -> None:
    """Networks other than ResNets, with the accepted names in the message."""
    with pytest.raises(CIRError, match=r"unknown network of timm 'resnet19'; nearest:.*resnet18"):
        ResNet(model="resnet19", weights="random", vocabulary=WORDS)
    with pytest.raises(CIRError, match="'vit_tiny_patch16_224' is no ResNet"):
        ResNet(model="vit_tiny_patch16_224", weights="random", vocabulary=WORDS)
    with pytest.raises(CIRError, match=r"checkpoint .*none\.pth does not exist"):
        ResNet(weights=str(tmp_path / "none.pth"), vocabulary=WORDS)
    with pytest.raises(ValueError, match=r"backbone\.vocabulary is empty"):
        ResNet(weights="random")


def test_the_small_network_has_the_trained_towers_names() -> None:
    """So that the weights of tiny_blip2's tower fit, whatever else its file holds."""
    file = WEIGHTS / "tiny_blip2" / "model.safetensors"
    if not file.is_file():
        pytest.skip(f"needs {file.name} of tiny_blip2")
    drawn, other = (TinyResNet(start=start, vocabulary=WORDS) for start in ("drawn", "random"))
    assert drawn.state_dict().keys() == other.state_dict().keys()
    name = "trunk.layer4.0.conv1.weight"
    assert not torch.equal(drawn.state_dict()[name], other.state_dict()[name])


def test_a_frozen_trunk_stays_as_it_is() -> None:
    backbone = TinyResNet(start="random", vocabulary=WORDS, vision="frozen").train()
    assert not backbone.trunk.training
    assert backbone.text.training
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())
    assert all(parameter.requires_grad for parameter in backbone.head.parameters())
