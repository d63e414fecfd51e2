"""Image files as RGB pictures, and pictures as network input."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from cir_plugins.errors import CIRError
from cir_plugins.files import check_regular

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 64_000_000
MAX_SIDE = 16_000
MAX_ASPECT = 200
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Resize = Literal["target_pad", "square_pad", "clip", "squash"]
"""How an image becomes a square; see ``Preprocess``."""
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

# What Pillow's decoders raise on damaged files, found by flipping bytes of good ones.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error)
_DAMAGE_TOO = (zlib.error, OverflowError, KeyError, MemoryError)


def open_image(path: Path) -> Image.Image:
    """The picture of a file as RGB, fully decoded.

    As in the official repositories, an EXIF orientation is not applied and transparency is dropped
    (the colours below it show). Of an animation the first frame counts. 16-bit grey is divided by
    257, whatever its brightest value.

    Raises:
        CIRError: The file is missing, empty, damaged, not an image, or too large: it would
            decompress to more than ``MAX_PIXELS`` pixels, or padding or resizing it would.
    """
    try:
        check_regular(path)
        return _decoded(path, f"image {path}", FORMATS, MAX_PIXELS)
    except FileNotFoundError as error:
        raise CIRError(f"image {path} does not exist") from error
    except IsADirectoryError as error:
        raise CIRError(
            f"image {path} is a folder\naccepted: a file; each of Path({str(path)!r}).iterdir()"
        ) from error
    except UnidentifiedImageError as error:
        raise CIRError(_unreadable(f"image {path}", path.stat().st_size, FORMATS)) from error
    except (*_DAMAGE, *_DAMAGE_TOO) as error:
        raise _undecodable(f"image {path}", error) from error


def decode_image(
    content: bytes,
    what: str,
    *,
    formats: Sequence[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The picture of a file's content as RGB, as ``open_image`` gives that of the file.

    Args:
        content: Whole content of the file.
        what: What it is, for messages.
        formats: Accepted formats, some of ``FORMATS``; the content tells, not a name.
        most_pixels: Most pixels that are decoded.

    Raises:
        CIRError: If it is empty, damaged, of another format, or too large.
    """
    try:
        return _decoded(BytesIO(content), what, formats, most_pixels)
    except UnidentifiedImageError as error:
        raise CIRError(_unreadable(what, len(content), formats)) from error
    except (*_DAMAGE, *_DAMAGE_TOO) as error:
        raise _undecodable(what, error) from error


def _decoded(
    source: Path | BytesIO, what: str, formats: Sequence[str], most_pixels: int
) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=tuple(formats)) as image:
                if image.width * image.height > most_pixels:
                    size = f"{image.width} × {image.height} pixels"
                    raise _too_big(what, size, most_pixels)
                _check_shape(what, *image.size)
                return _rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_big(what, "more", most_pixels) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture in memory as RGB, converted as ``open_image`` converts files.

    Raises:
        CIRError: If padding or resizing it would take more than is accepted, or it is damaged.
    """
    _check_shape("a picture in memory", *image.size)
    try:
        return _rgb(image)
    except (*_DAMAGE, *_DAMAGE_TOO) as error:
        raise _undecodable("a picture in memory", error) from error


def _undecodable(what: str, error: BaseException) -> CIRError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CIRError(f"{what} cannot be decoded: {reason}")


def _too_big(what: str, size: str, most_pixels: int) -> CIRError:
    limit = f"at most {most_pixels:,} pixels are accepted"
    return CIRError(f"{what} would decompress to {size}\n{limit}")


def _check_shape(what: str, width: int, height: int) -> None:
    """Refuse small files that padding to a square or scaling the shorter side makes gigabytes."""
    long, short = max(width, height), min(width, height)
    if long > MAX_SIDE or long > MAX_ASPECT * short:
        limits = f"sides of at most {MAX_SIDE:,} pixels, one at most {MAX_ASPECT} times the other"
        raise CIRError(f"{what} has {width} × {height} pixels\naccepted: {limits}")


def _unreadable(what: str, size: int, formats: Sequence[str]) -> str:
    if size == 0:
        return f"{what} is empty (0 bytes)"
    return f"{what} is not an image or its header is damaged\naccepted: {', '.join(formats)}"


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        # 16 bits, which Pillow would clip at 255: a white picture.
        scaled = np.asarray(image).astype(np.float64) / 257
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
