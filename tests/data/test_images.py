from __future__ import annotations

import io
import pickle
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torchvision import transforms  # type: ignore[import-untyped, unused-ignore]
from torchvision.transforms import (  # type: ignore[import-untyped, unused-ignore]
    InterpolationMode,
    functional,
)

from cir_plugins.data import images
from cir_plugins.data.images import (
    AUGMENTATIONS,
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_PIXELS,
    Preprocess,
    augment,
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

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
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
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_cut_off_file_is_named(tmp_path: Path, kind: str, kept: float) -> None:
    whole = encoded(noise(64, 64), kind)
    file = tmp_path / "cut"
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CIRError, match=r"image .*cut (cannot be decoded: .+|is not an image)"):
        open_image(file)


@pytest.mark.parametrize("size", [(8001, 8000), (20_000, 10_000), (60_000, 60_000)])
def test_an_image_that_would_fill_the_memory_is_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(*size))
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(CIRError, match=r"bomb\.png would decompress to .*\nat most 64,000,000"):
        open_image(file)


def test_no_damage_escapes_as_another_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    sources = [encoded(noise(24, 20), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    file = tmp_path / "damaged"
    opened = refused = 0
    for _ in range(400):
        data = bytearray(chance.choice(sources))
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(min(len(data), 80))] = chance.randrange(256)
        file.write_bytes(data)
        try:
            opened += open_image(file).mode == "RGB"
        except CIRError as error:
            refused += str(file) in str(error)
    assert opened + refused == 400
    assert min(opened, refused) > 20


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


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_depend_on_the_seed_alone(name: images.Augmentation) -> None:
    image = noise(40, 60)
    before = image.tobytes()
    results = [augment(image, name, random.Random(seed)).tobytes() for seed in range(12)]
    again = [augment(image, name, random.Random(seed)).tobytes() for seed in range(12)]
    assert results == again
    assert image.tobytes() == before
    assert (len(set(results)) == 1) == (name == "none")


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (200, 3), (31, 47)])
def test_augmentations_take_every_shape(name: images.Augmentation, shape: tuple[int, int]) -> None:
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
        left, top, right, bottom = images._crop_box(shape, scale, random.Random(seed))
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


def test_a_crop_that_cannot_be_drawn_falls_back_to_the_centre() -> None:
    # 400 × 20 is flatter than 4:3, and a crop of 75 % of its area would be taller than it is.
    assert images._crop_box((400, 20), (0.75, 1.33), random.Random(0)) == (186, 0, 213, 20)
    assert images._crop_box((20, 400), (0.75, 1.33), random.Random(0)) == (0, 186, 20, 213)


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
    same = [operation(image, 1).tobytes() == image.tobytes() for operation in images._OPERATIONS]
    # Level 5 of 10 is the factor at which brightness and sharpness stay as they are.
    assert same == [True, True, True, True, False, False, False, False, False, False]
    dim = ImageEnhance.Brightness(image).enhance(0.5)
    assert images._OPERATIONS[1](dim, 1).tobytes() != dim.tobytes()


def test_unknown_augmentations_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'blur'; accepted: none, flip"):
        augment(noise(2, 2), "blur", random.Random(0))  # type: ignore[arg-type]
