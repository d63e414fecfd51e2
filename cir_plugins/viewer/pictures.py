"""Small pictures in a folder of their own, a file for each image that the page shows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from cir_plugins.data.images import open_image
from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

SIDE = 144
_QUALITY = 78
_THREADS = 4


def write_pictures(
    folder: Path, names: Sequence[str], paths: Mapping[str, Path], side: int, progress: bool
) -> list[int]:
    """Write ``<number>.jpg`` for each image; the numbers of those that cannot be read.

    Args:
        folder: Where they go.
        names: Image ids; a picture's number is its position.
        paths: Image id -> file.
        side: Longest side in pixels.
        progress: Whether a bar is shown.

    Raises:
        CIRError: If a picture cannot be written.
    """

    def write(number: int) -> bool:
        small = _smaller(paths.get(names[number]), side)
        if small is not None:
            write_atomically(folder / f"{number}.jpg", small)
        return small is not None

    with ThreadPoolExecutor(_THREADS) as pool:
        done: Iterator[bool] = pool.map(write, range(len(names)))
        bar = tqdm(done, "pictures", len(names), leave=False, disable=not progress)
        return [number for number, written in enumerate(bar) if not written]


def _smaller(path: Path | None, side: int) -> bytes | None:
    """The picture as a JPEG; None where it cannot be read, since a page shows the others."""
    if path is None:
        return None
    try:
        image = open_image(path)
    except CIRError:
        return None
    if max(image.size) > side:
        image = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY, optimize=True)
    return data.getvalue()
