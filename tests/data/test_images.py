from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms  # type: ignore[import-untyped, unused-ignore]
from torchvision.transforms import (  # type: ignore[import-untyped, unused-ignore]
    InterpolationMode,
    functional,
)

from cir_plugins.data import images
from cir_plugins.data.images import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_PIXELS,
    Preprocess,
    open_image,
)
from cir_plugins.errors import CIRError

SIZES = [(100, 100), (160, 90), (90, 161), (300, 37), (125, 100), (64, 225), (1, 7), (65, 64)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def block(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(b"\0" * 100))
    )


def test_open_gives_decoded_rgb(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(noise(7, 5)))
    image = open_image(file)
    file.unlink()
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(noise(7, 5)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_open_turns_every_mode_into_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(noise(6, 4).convert(mode)))
    assert (open_image(file).mode, open_image(file).size) == ("RGB", (6, 4))


def test_open_reads_cmyk_jpeg(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK"), "JPEG"))
    red, green, blue = np.asarray(open_image(file)).reshape(-1, 3).mean(0)
    assert red > 150 > 80 > max(green, blue)


def test_open_scales_sixteen_bit_grey(tmp_path: Path) -> None:
    grey = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(grey)))
    assert np.asarray(open_image(file))[0, :, 0].tolist() == [0, 100, 255]


def test_dark_sixteen_bit_grey_stays_dark(tmp_path: Path) -> None:
    """Whether to scale was decided by the brightest value: 200 of 65,535 became 200 of 255."""
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(np.array([[0, 200, 130]], dtype=np.uint16))))
    assert np.asarray(open_image(file))[0, :, 0].tolist() == [0, 1, 1]


def test_open_reads_tiff(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(encoded(noise(7, 5), "TIFF"))
    assert np.array_equal(np.asarray(open_image(file)), np.asarray(noise(7, 5)))


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(CIRError, match=r"a\.jpg is a pipe, socket or device"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(2, 1_000_000), (64_000_000, 1), (16_001, 100), (201, 1)])
def test_extreme_shapes_are_errors(tmp_path: Path, size: tuple[int, int]) -> None:
    """Files of a few bytes that padding to a square or scaling made gigabytes."""
    file = tmp_path / "thin.png"
    file.write_bytes(png_header(*size))
    with pytest.raises(
        CIRError, match=r"thin\.png has .* pixels\naccepted: sides of at most 16,000"
    ):
        open_image(file)


def test_open_drops_transparency_and_keeps_the_colours_below(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.new("RGBA", (2, 2), (10, 20, 30, 0))))
    assert open_image(file).getpixel((0, 0)) == (10, 20, 30)


def test_open_ignores_the_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "a.jpg"
    noise(8, 4).save(file, exif=exif)
    assert open_image(file).size == (8, 4)


def test_open_reads_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    file = tmp_path / "a.gif"
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(file, save_all=True, append_images=frames[1:])
    assert open_image(file).getpixel((1, 1)) == (255, 0, 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"image .*gone\.jpg does not exist"):
        open_image(tmp_path / "gone.jpg")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(CIRError, match=r"a\.jpg is empty \(0 bytes\)"):
        open_image(tmp_path / "a.jpg")


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>not found</html>")
    with pytest.raises(CIRError, match=r"a\.jpg is not an image.*\naccepted: JPEG, PNG"):
        open_image(tmp_path / "a.jpg")


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"cannot be decoded: .*directory"):
        open_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_off_file_is_named(tmp_path: Path, kind: str, share: float) -> None:
    whole = encoded(noise(64, 64), kind)
    file = tmp_path / "cut"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CIRError, match=r"image .*cut (cannot be decoded: .+|is not an image)"):
        open_image(file)


@pytest.mark.parametrize("size", [(8001, 8000), (20_000, 10_000), (60_000, 60_000)])
def test_image_that_would_fill_memory_is_error(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(*size))
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(CIRError, match=r"bomb\.png would decompress to .*\nat most 64,000,000"):
        open_image(file)


def test_no_damage_escapes_as_another_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    sources = [encoded(noise(24, 20), kind) for kind in images.FORMATS]
    file = tmp_path / "damaged"
    opened = failed = 0
    for _ in range(400):
        data = bytearray(rng.choice(sources))
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(min(len(data), 80))] = rng.randrange(256)
        file.write_bytes(data)
        try:
            opened += open_image(file).mode == "RGB"
        except CIRError as error:
            failed += str(file) in str(error)
    assert opened + failed == 400
    assert min(opened, failed) > 20


def plain_preprocess(image: Image.Image, size: int, resize: str) -> torch.Tensor:
    """The same with torchvision, after the description of CLIP4Cir's preprocessing."""
    width, height = image.size
    if resize == "target_pad" and max(width, height) / min(width, height) >= 1.25:
        side = max(width, height) / 1.25
        h, v = max(int((side - width) / 2), 0), max(int((side - height) / 2), 0)
        image = functional.pad(image, [h, v, h, v], 0)
    if resize == "square_pad":
        side = max(width, height)
        h, v = int((side - width) / 2), int((side - height) / 2)
        image = functional.pad(image, [h, v, h, v], 0)
    target = [size, size] if resize == "squash" else size
    steps = [
        transforms.Resize(target, InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(CLIP_MEAN, CLIP_STD),
    ]
    result: torch.Tensor = transforms.Compose(steps)(image)
    return result


@pytest.mark.parametrize("resize", ["target_pad", "square_pad", "clip", "squash"])
@pytest.mark.parametrize("size", [32, 65])
@pytest.mark.parametrize("shape", SIZES)
def test_preprocess_equals_torchvision(
    resize: images.Resize, size: int, shape: tuple[int, int]
) -> None:
    image = noise(*shape, seed=sum(shape))
    before = image.tobytes()
    pixels = Preprocess(size, resize)(image)
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, plain_preprocess(image, size, resize))
    assert image.tobytes() == before


def test_target_pad_by_hand() -> None:
    # 100 × 200: the side becomes 200 / 1.25 = 160, so 30 black columns at each side.
    image = Image.new("RGB", (100, 200), "white")
    padded = images._target_pad(image, 1.25)
    assert padded.size == (160, 200)
    assert [padded.getpixel((x, 5)) for x in (29, 30, 129, 130)] == [
        (0, 0, 0),
        (255, 255, 255),
        (255, 255, 255),
        (0, 0, 0),
    ]
    # Halves are cut off: side 125.6 of 101 leaves 12.3 at each side.
    assert images._target_pad(Image.new("RGB", (101, 157)), 1.25).size == (125, 157)


def test_preprocess_normalises_with_its_own_numbers() -> None:
    grey = Image.new("RGB", (10, 10), (51, 102, 204))
    pixels = Preprocess(4, "clip", mean=IMAGENET_MEAN, std=IMAGENET_STD)(grey)
    for channel, level in enumerate((0.2, 0.4, 0.8)):
        want = (level - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert pixels[channel].flatten().tolist() == pytest.approx([want] * 16, abs=1e-6)


def test_preprocess_survives_pickling() -> None:
    preprocess = Preprocess(16, "squash", interpolation="bilinear")
    again = pickle.loads(pickle.dumps(preprocess))
    assert again == preprocess
    assert torch.equal(again(noise(20, 30)), preprocess(noise(20, 30)))
