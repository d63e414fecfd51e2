"""Image files to RGB pictures, pictures to network input, and the augmentations of training."""

from __future__ import annotations

import math
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Resize = Literal["target_pad", "square_pad", "clip", "squash"]
"""How an image becomes a square; see ``Preprocess``."""
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Augmentation = Literal["none", "flip", "crop_flip", "shift_crop_flip", "rand_augment", "photo"]

# What Pillow's decoders raise on damaged files, found by flipping bytes of good ones.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error)
_DAMAGE_TOO = (zlib.error, OverflowError, KeyError, MemoryError)


def open_image(path: Path) -> Image.Image:
    """The picture of a file as RGB, fully decoded.

    As in the official repositories, an EXIF orientation is not applied and transparency is dropped
    (the colours below it show). Of an animation the first frame counts. 16-bit grey is scaled to 8.

    Raises:
        CIRError: The file is missing, empty, damaged, not an image, or would decompress to more
            than ``MAX_PIXELS`` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_big(path, f"{image.width} × {image.height} pixels")
                return _rgb(image)
    except FileNotFoundError as error:
        raise CIRError(f"image {path} does not exist") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_big(path, "more") from error
    except UnidentifiedImageError as error:
        raise CIRError(_unreadable(path)) from error
    except (*_DAMAGE, *_DAMAGE_TOO) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CIRError(f"image {path} cannot be decoded: {reason}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture in memory as RGB, converted as ``open_image`` converts files."""
    return _rgb(image)


def _too_big(path: Path, size: str) -> CIRError:
    limit = f"at most {MAX_PIXELS:,} pixels are accepted"
    return CIRError(f"image {path} would decompress to {size}\n{limit}")


def _unreadable(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"image {path} is empty (0 bytes)"
    return f"image {path} is not an image or its header is damaged\naccepted: {', '.join(FORMATS)}"


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        # Pillow would clip these at 255 and give a white picture.
        grey = np.asarray(image).astype(np.float64)
        scaled = grey / 257 if grey.max(initial=0) > 255 else grey
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Preprocess:
    """Makes an RGB picture into normalised pixels (3, size, size), float32; the same for training.

    Attributes:
        size: Side of the square that comes out.
        resize: ``target_pad``: pad with black until the sides' ratio is about ``ratio``, then as
            ``clip``. ``square_pad``: pad to a square, then as ``clip``. ``clip``: shorter side to
            ``size``, then the centre. ``squash``: to the square at once, aspect not kept.
        ratio: Largest aspect ratio that ``target_pad`` leaves alone, at least 1.
        mean: Subtracted from each channel in 0..1.
        std: Each channel is divided by it afterwards.
        interpolation: Filter of the resize.

    Source: target padding, Baldrati et al., 2023, arXiv 2308.11485.
    """

    size: int = 224
    resize: Resize = "target_pad"
    ratio: float = 1.25
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Interpolation = "bicubic"

    def __call__(self, image: Image.Image) -> Tensor:
        """Normalised pixels (3, size, size) of an RGB picture."""
        import torch

        side = self.shaped(image)
        pixels = torch.from_numpy(np.array(side)).permute(2, 0, 1).to(torch.float32).contiguous()
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        return pixels.div_(255).sub_(mean).div_(std)

    def shaped(self, image: Image.Image) -> Image.Image:
        """The picture of ``size`` × ``size`` pixels before it becomes numbers."""
        method = Image.Resampling[self.interpolation.upper()]
        if self.resize == "squash":
            return image.resize((self.size, self.size), method)
        if self.resize == "target_pad":
            image = _target_pad(image, self.ratio)
        elif self.resize == "square_pad":
            image = _pad(image, float(max(image.size)))
        return self._short_side_centre(image, method)

    def _short_side_centre(self, image: Image.Image, method: Image.Resampling) -> Image.Image:
        width, height = image.size
        long = int(self.size * max(width, height) / min(width, height))
        scaled = (self.size, long) if width <= height else (long, self.size)
        if scaled != image.size:
            image = image.resize(scaled, method)
        left = round((image.width - self.size) / 2)
        top = round((image.height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def _target_pad(image: Image.Image, ratio: float) -> Image.Image:
    long, short = max(image.size), min(image.size)
    return image if long / short < ratio else _pad(image, long / ratio)


def _pad(image: Image.Image, side: float) -> Image.Image:
    left = max(int((side - image.width) / 2), 0)
    top = max(int((side - image.height) / 2), 0)
    if not left and not top:
        return image
    padded = Image.new("RGB", (image.width + 2 * left, image.height + 2 * top))
    padded.paste(image, (left, top))
    return padded


def augment(image: Image.Image, name: Augmentation, chance: random.Random) -> Image.Image:
    """The picture changed at random, before it is preprocessed.

    Args:
        image: RGB; it is left as it is.
        name: ``flip``: mirrored half of the time. ``crop_flip``: CoSMo's and MGUR's crop, then
            flip. ``shift_crop_flip``: VAL's window of 256/280 or more of each side, then flip.
            ``rand_augment``: CoVR's crop, flip and two random operations. ``photo``: a small turn,
            zoom and shift, flip, and changes of light that keep the names of colours true.
        chance: Every draw comes from it.

    Raises:
        ValueError: ``name`` is not an augmentation.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation '{name}'; accepted: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name](image, chance)


def _flip(image: Image.Image, chance: random.Random) -> Image.Image:
    if chance.random() < 0.5:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _crop_flip(image: Image.Image, chance: random.Random) -> Image.Image:
    return _flip(image.crop(_crop_box(image.size, (0.75, 1.33), chance)), chance)


def _crop_box(
    size: tuple[int, int], scale: tuple[float, float], chance: random.Random
) -> tuple[int, int, int, int]:
    """A window as torchvision's ``RandomResizedCrop`` draws it, its way of giving up included."""
    width, height = size
    low, high = 3 / 4, 4 / 3
    for _ in range(10):
        area = width * height * chance.uniform(*scale)
        aspect = math.exp(chance.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = chance.randint(0, height - h), chance.randint(0, width - w)
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * high)))
    h = min(height, max(1, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _shift_crop_flip(image: Image.Image, chance: random.Random) -> Image.Image:
    image = _flip(image, chance)
    share = 256 / chance.randrange(256, 280)
    w, h = max(1, round(image.width * share)), max(1, round(image.height * share))
    left, top = chance.randint(0, image.width - w), chance.randint(0, image.height - h)
    return image.crop((left, top, left + w, top + h))


def _rand_augment(image: Image.Image, chance: random.Random) -> Image.Image:
    image = _flip(image.crop(_crop_box(image.size, (0.5, 1.0), chance)), chance)
    for operation in chance.choices(_OPERATIONS, k=2):
        if chance.random() < 0.5:
            image = operation(image, -1 if chance.random() < 0.5 else 1)
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


def _photo(image: Image.Image, chance: random.Random) -> Image.Image:
    angle = math.radians(chance.uniform(-8, 8))
    zoom = math.exp(chance.uniform(-0.12, 0.12))
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x, y = image.width / 2, image.height / 2
    right, down = (chance.uniform(-0.06, 0.06) * side for side in image.size)
    matrix = (cos, sin, x - cos * x - sin * y + right, -sin, cos, y + sin * x - cos * y + down)
    edge = np.asarray(image)[[0, -1]].mean(axis=(0, 1)).round().astype(int).tolist()
    image = image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BILINEAR,
        fillcolor=tuple(edge),
    )
    return _light(_flip(image, chance), chance)


def _light(image: Image.Image, chance: random.Random) -> Image.Image:
    contrast, brightness = chance.uniform(0.85, 1.15), chance.uniform(0.85, 1.15)
    gains = [brightness * chance.uniform(0.95, 1.05) for _ in range(3)]
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
