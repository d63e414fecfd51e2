"""Augmentations of training images, each a function of a picture and a random generator."""

# torchvision's v2 transforms draw from torch's global generator and in another order: no number
# of a run trained before would come back. So these are ours.

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Augmentation = Literal["none", "flip", "crop_flip", "shift_crop_flip", "rand_augment", "photo"]


def augment(image: Image.Image, name: Augmentation, rng: random.Random) -> Image.Image:
    """The picture changed at random, before it is preprocessed.

    Args:
        image: RGB; it is left as it is.
        name: ``flip``: mirrored half of the time. ``crop_flip``: CoSMo's and MGUR's crop, then
            flip. ``shift_crop_flip``: VAL's window of 256/280 or more of each side, then flip.
            ``rand_augment``: CoVR's crop, flip and two random operations. ``photo``: a small turn,
            zoom and shift, flip, and changes of light that keep the names of colours true.
        rng: Every draw comes from it.

    Raises:
        ValueError: ``name`` is not an augmentation.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation '{name}'; accepted: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name](image, rng)


def _flip(image: Image.Image, rng: random.Random) -> Image.Image:
    if rng.random() < 0.5:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _crop_flip(image: Image.Image, rng: random.Random) -> Image.Image:
    return _flip(image.crop(_crop_box(image.size, (0.75, 1.33), rng)), rng)


def _crop_box(
    size: tuple[int, int], scale: tuple[float, float], rng: random.Random
) -> tuple[int, int, int, int]:
    """A window as torchvision's ``RandomResizedCrop`` draws it, its way of giving up included."""
    width, height = size
    low, high = 3 / 4, 4 / 3
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * high)))
    h = min(height, max(1, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _shift_crop_flip(image: Image.Image, rng: random.Random) -> Image.Image:
    image = _flip(image, rng)
    share = 256 / rng.randrange(256, 280)
    w, h = max(1, round(image.width * share)), max(1, round(image.height * share))
    left, top = rng.randint(0, image.width - w), rng.randint(0, image.height - h)
    return image.crop((left, top, left + w, top + h))


def _rand_augment(image: Image.Image, rng: random.Random) -> Image.Image:
    image = _flip(image.crop(_crop_box(image.size, (0.5, 1.0), rng)), rng)
    for operation in rng.choices(_OPERATIONS, k=2):
        if rng.random() < 0.5:
            image = operation(image, -1 if rng.random() < 0.5 else 1)
    return image


def _affine(image: Image.Image, a: float, b: float, c: float, d: float) -> Image.Image:
    """Pulls pixel (x, y) from (x + a·y + b, c·x + y + d); what is outside is grey."""
    matrix = (1.0, a, b, c, 1.0, d)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(128, 128, 128))


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    return image.rotate(sign * 15, fillcolor=(128, 128, 128))


# Level 5 of 10: enhancement factor 1.0, shear 0.15, 5 pixels of 384, 15 degrees.
# Source: Ventura et al., 2024, arXiv 2308.14746, the released code's settings.
_OPERATIONS: tuple[Callable[[Image.Image, int], Image.Image], ...] = (
    lambda image, _: image,
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageEnhance.Brightness(image).enhance(1.0),
    lambda image, _: ImageEnhance.Sharpness(image).enhance(1.0),
    lambda image, _: ImageOps.equalize(image),
    lambda image, sign: _affine(image, sign * 0.15, 0, 0, 0),
    lambda image, sign: _affine(image, 0, 0, sign * 0.15, 0),
    lambda image, sign: _affine(image, 0, sign * image.width * 5 / 384, 0, 0),
    lambda image, sign: _affine(image, 0, 0, 0, sign * image.height * 5 / 384),
    _rotate,
)


def _photo(image: Image.Image, rng: random.Random) -> Image.Image:
    angle = math.radians(rng.uniform(-8, 8))
    zoom = math.exp(rng.uniform(-0.12, 0.12))
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x, y = image.width / 2, image.height / 2
    right, down = (rng.uniform(-0.06, 0.06) * side for side in image.size)
    matrix = (cos, sin, x - cos * x - sin * y + right, -sin, cos, y + sin * x - cos * y + down)
    edge = np.asarray(image)[[0, -1]].mean(axis=(0, 1)).round().astype(int).tolist()
    image = image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BILINEAR,
        fillcolor=tuple(edge),
    )
    return _light(_flip(image, rng), rng)


def _light(image: Image.Image, rng: random.Random) -> Image.Image:
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15)
    gains = [brightness * rng.uniform(0.95, 1.05) for _ in range(3)]
    shades = ((np.arange(256) - 128) * contrast + 128)[None] * np.array(gains)[:, None]
    return image.point(shades.clip(0, 255).round().astype(int).reshape(-1).tolist())


AUGMENTATIONS: Mapping[str, Callable[[Image.Image, random.Random], Image.Image]] = MappingProxyType(
    {
        "none": lambda image, _: image,
        "flip": _flip,
        "crop_flip": _crop_flip,
        "shift_crop_flip": _shift_crop_flip,
        "rand_augment": _rand_augment,
        "photo": _photo,
    }
)
