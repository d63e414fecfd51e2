"""Picture files of every format and mode, damaged: a picture within bounds or one message."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import strategies as st
from PIL import Image

from cir_plugins.data.images import MAX_ASPECT, MAX_SIDE, Preprocess, open_image
from cir_plugins.errors import CIRError
from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import bounded
from tests.fuzz.values import ByteDamage, binary_damages

_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P", "1"),
    "GIF": ("L", "P"),
    "TIFF": ("RGB", "RGBA", "L", "CMYK", "P", "1", "I;16", "I", "F", "LAB", "YCbCr"),
}
KINDS = [(name, mode) for name, modes in _MODES.items() for mode in modes]
_RESIZES = ("target_pad", "square_pad", "clip", "squash")


def picture(kind: tuple[str, str]) -> bytes:
    """A file of 24 x 17 pixels, of a format and a mode."""
    name, mode = kind
    levels = Image.linear_gradient("L").resize((24, 17))
    if mode == "I;16":
        image = levels.convert("I").convert("I;16")
    elif mode in ("LA", "LAB"):
        image = Image.merge(mode, [levels] * len(Image.new(mode, (1, 1)).getbands()))
    else:
        image = levels.convert("RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


CONTENTS = {kind: picture(kind) for kind in KINDS}


@profiles
def test_damaged_pictures_open_or_are_refused(times: int, folders: Folders) -> None:
    file = folders() / "picture"

    def property_holds(kind: tuple[str, str], damages: list[ByteDamage], resize: str) -> None:
        content = CONTENTS[kind]
        for damage in damages:
            content = damage.of(content)
        file.write_bytes(content)
        with bounded():
            try:
                image = open_image(file)
            except CIRError as error:
                assert str(file) in str(error)  # noqa: PT017
                return
            assert image.mode == "RGB"
            long, short = max(image.size), min(image.size)
            assert long <= MAX_SIDE
            assert long <= MAX_ASPECT * short
            pixels = Preprocess(16, resize)(image)  # type: ignore[arg-type]
        assert pixels.shape == (3, 16, 16)
        assert pixels.isfinite().all()

    explore(
        200 * times,
        property_holds,
        st.sampled_from(KINDS),
        st.lists(binary_damages, max_size=3),
        st.sampled_from(_RESIZES),
    )


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_cut_is_a_picture_or_refused(kind: tuple[str, str], tmp_path: Path) -> None:
    """A download that stopped anywhere."""
    file, content = tmp_path / "picture", CONTENTS[kind]
    for length in itertools.chain(range(0, 64, 3), range(64, len(content), 131)):
        file.write_bytes(content[:length])
        try:
            assert open_image(file).mode == "RGB"
        except CIRError as error:
            assert str(file) in str(error)  # noqa: PT017
