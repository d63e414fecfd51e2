from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torchvision import transforms  # type: ignore[import-untyped, unused-ignore]

from cir_plugins.data import augment as augment_module
from cir_plugins.data.augment import AUGMENTATIONS, augment


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_depend_on_the_seed_alone(name: augment_module.Augmentation) -> None:
    image = noise(40, 60)
    before = image.tobytes()
    results = [augment(image, name, random.Random(seed)).tobytes() for seed in range(12)]
    again = [augment(image, name, random.Random(seed)).tobytes() for seed in range(12)]
    assert results == again
    assert image.tobytes() == before
    assert (len(set(results)) == 1) == (name == "none")


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (200, 3), (31, 47)])
def test_augmentations_take_every_shape(
    name: augment_module.Augmentation, shape: tuple[int, int]
) -> None:
    for seed in range(20):
        result = augment(noise(*shape), name, random.Random(seed))
        assert result.mode == "RGB"
        assert 1 <= result.width <= shape[0]
        assert 1 <= result.height <= shape[1]


def test_flip_mirrors_half_of_the_time() -> None:
    image = noise(4, 3)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    results = [augment(image, "flip", random.Random(seed)).tobytes() for seed in range(200)]
    assert {image.tobytes(), mirrored} == set(results)
    assert 70 < results.count(mirrored) < 130


@pytest.mark.parametrize("scale", [(0.75, 1.33), (0.5, 1.0), (0.01, 0.02)])
@pytest.mark.parametrize("shape", [(50, 50), (400, 20), (20, 400), (64, 48)])
def test_crops_are_those_torchvision_would_draw(
    scale: tuple[float, float], shape: tuple[int, int]
) -> None:
    ours, theirs = [], []
    for seed in range(200):
        left, top, right, bottom = augment_module._crop_box(shape, scale, random.Random(seed))
        assert 0 <= left < right <= shape[0]
        assert 0 <= top < bottom <= shape[1]
        ours.append((left, top, right - left, bottom - top))
        torch.manual_seed(seed)
        image = torch.zeros(3, shape[1], shape[0])
        crop = transforms.RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3])
        theirs.append((crop[1], crop[0], crop[3], crop[2]))
    for a, b, side in zip(
        np.mean(ours, axis=0), np.mean(theirs, axis=0), (*shape, *shape), strict=True
    ):
        assert a == pytest.approx(b, abs=0.07 * side)


def test_an_impossible_crop_falls_back_to_the_centre() -> None:
    # 400 × 20 is flatter than 4:3, and a crop of 75 % of its area would be taller than it is.
    assert augment_module._crop_box((400, 20), (0.75, 1.33), random.Random(0)) == (186, 0, 213, 20)
    assert augment_module._crop_box((20, 400), (0.75, 1.33), random.Random(0)) == (0, 186, 20, 213)


def test_shift_crop_keeps_at_least_256_of_280() -> None:
    shares = set()
    for seed in range(300):
        result = augment(noise(280, 280), "shift_crop_flip", random.Random(seed))
        assert result.width == result.height
        shares.add(result.width)
    assert min(shares) >= 256
    assert max(shares) == 280


def test_photo_keeps_grey_nearly_grey_and_in_place() -> None:
    image = Image.new("RGB", (60, 60), (120, 120, 120))
    for seed in range(40):
        pixels = np.asarray(augment(image, "photo", random.Random(seed))).reshape(-1, 3)
        assert np.ptp(pixels, axis=0).max() == 0
        assert np.ptp(pixels[0].astype(int)) <= 20
        assert 80 <= pixels.min() <= pixels.max() <= 160


def test_rand_augment_has_each_operation() -> None:
    image = noise(200, 200)
    same = [
        operation(image, 1).tobytes() == image.tobytes() for operation in augment_module._OPERATIONS
    ]
    # Level 5 of 10 is the factor at which brightness and sharpness stay as they are.
    assert same == [True, True, True, True, False, False, False, False, False, False]
    dim = ImageEnhance.Brightness(image).enhance(0.5)
    assert augment_module._OPERATIONS[1](dim, 1).tobytes() != dim.tobytes()


def test_unknown_augmentations_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'blur'; accepted: none, flip"):
        augment(noise(2, 2), "blur", random.Random(0))  # type: ignore[arg-type]
