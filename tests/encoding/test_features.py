from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cir_plugins.encoding.loading as loading_module
from cir_plugins.data.images import open_image
from cir_plugins.encoding.features import TrainingFeatures, by_shape, feature_batches
from cir_plugins.errors import CIRError
from tests.fakes import CPU, FakeBackbone, write_pictures


def test_batches_cover_every_image_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(write_pictures(tmp_path, [str(n) for n in range(17)]).values())
    backbone = FakeBackbone()
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_image(path)

    monkeypatch.setattr(loading_module, "open_image", counted)
    encoded = list(feature_batches(backbone, paths, CPU, "x"))
    assert opened == paths
    assert [index.tolist() for index, _ in encoded] == [
        list(range(7)),
        list(range(7, 14)),
        [14, 15, 16],
    ]
    features = torch.cat([features for _, features in encoded])
    assert not features.requires_grad
    pixels = torch.stack([backbone.preprocess(open_image(path)) for path in paths])
    assert torch.allclose(features, backbone.features(pixels), atol=1e-6)


def test_workers_give_the_same_features(tmp_path: Path) -> None:
    paths = list(write_pictures(tmp_path, [str(n) for n in range(9)]).values())
    alone = [features for _, features in feature_batches(FakeBackbone(), paths, CPU, "x")]
    encoding = replace(CPU, workers=2)
    shared = [features for _, features in feature_batches(FakeBackbone(), paths, encoding, "x")]
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    """A worker's traceback must not become part of the message."""
    paths = list(write_pictures(tmp_path, ["a", "b", "c"]).values())
    paths[1].write_bytes(b"\x89PNG, but not for long")
    encoding = replace(CPU, workers=workers)
    with pytest.raises(CIRError) as caught:
        list(feature_batches(FakeBackbone(), paths, encoding, "x"))
    message = str(caught.value)
    assert message.startswith(f"image {paths[1]} ")
    assert "Traceback" not in message
    assert "worker" not in message


def test_autocast_reaches_the_features(tmp_path: Path) -> None:
    paths = list(write_pictures(tmp_path, ["a"]).values())
    encoding = replace(CPU, dtype=torch.bfloat16)
    ((_, features),) = feature_batches(FakeBackbone(), paths, encoding, "x")
    assert features.dtype == torch.bfloat16


def test_training_features_hold_all_images_or_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(write_pictures(tmp_path, [str(n) for n in range(20)]).values())
    backbone = FakeBackbone(frozen=True)
    features = TrainingFeatures.build(backbone, paths, CPU, 1)
    assert features is not None
    pixels = torch.stack([backbone.preprocess(open_image(path)) for path in paths])
    expected = backbone.features(pixels)
    index = torch.tensor([19, 0, 3])
    assert torch.allclose(features[index], expected[index], atol=1e-6)
    batches = list(features.batches(torch.arange(19, -1, -1), CPU))
    assert torch.equal(torch.cat([place for place, _ in batches]), torch.arange(20))
    whole = torch.cat([batch for _, batch in batches])
    assert torch.allclose(whole, expected.flip(0), atol=1e-6)
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_image(path)

    monkeypatch.setattr(loading_module, "open_image", counted)
    assert TrainingFeatures.build(backbone, paths, CPU, 0) is None
    assert len(opened) < 20  # known after the first batch


@pytest.mark.parametrize("number", [1, 2, 5, 16, 21])
def test_a_pass_of_fixed_shape_gives_the_same_bits(number: int) -> None:
    """Matrix products round by the number of rows: alone an image had other last bits."""
    generator = torch.Generator().manual_seed(0)
    rows, weight = (
        torch.randn(32, 96, generator=generator),
        torch.randn(96, 80, generator=generator),
    )
    sizes: list[int] = []

    def product(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return torch.tanh(images @ weight) @ weight.T

    whole = by_shape(product, rows, 16)
    assert torch.equal(by_shape(product, rows[:number], 16), whole[:number])
    assert set(sizes) == {16}
