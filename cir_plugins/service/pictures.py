"""Indexed pictures as a browser shows them: files as they are, and thumbnails kept in memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from pathlib import Path

from PIL import Image

from cir_plugins.data.images import FORMATS, decode_image
from cir_plugins.errors import CIRError


class Side(IntEnum):
    """Longer side of a thumbnail in pixels."""

    STEP = 160
    HIT = 320
    LARGE = 640
    LARGEST = 1280


# What browsers show; other formats are sent as PNG.
MEDIA_TYPES = {
    **{"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"},
    **{"GIF": "image/gif", "BMP": "image/bmp"},
}
_KEPT_BYTES = 64 * 2**20
_AT_A_TIME = 4


class GoneError(CIRError):
    """An indexed picture whose file is no longer there or no longer a picture."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is sent.

    Attributes:
        content: Bytes of a file.
        media_type: Its type.
        tag: Changes with the content.
    """

    content: bytes
    media_type: str
    tag: str


class Pictures:
    """Pictures of an index by id.

    Args:
        file_of: The file of an id; a ``CIRError`` for an unknown one. No other file is read.
    """

    def __init__(self, file_of: Callable[[str], Path]) -> None:
        self._file_of = file_of
        self._kept: OrderedDict[tuple[str, int, int, int], Picture] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(_AT_A_TIME)

    def picture(self, name: str, side: Side | None = None) -> Picture:
        """A picture, or its thumbnail.

        Args:
            name: Id of the picture.
            side: Longer side of the thumbnail; None for the file as it is.

        Raises:
            GoneError: If the file has gone or is damaged since it was indexed.
            CIRError: If the index has no such picture.
        """
        path = self._file_of(name)
        try:
            state = path.stat()
        except OSError as error:
            raise _gone(name) from error
        if side is None:
            with self._turn:
                return _as_it_is(name, path)
        key = (name, side, state.st_mtime_ns, state.st_size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._turn:
            made = _thumbnail(name, path, side)
        with self._lock:
            if key not in self._kept:
                self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, int, int, int], picture: Picture) -> None:
        self._kept[key] = picture
        self._kept_bytes += len(picture.content)
        while self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1].content)


def _as_it_is(name: str, path: Path) -> Picture:
    content = _content(name, path)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            form = image.format or ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _gone(name) from error
    if form in MEDIA_TYPES:
        return _made(content, MEDIA_TYPES[form])
    return _encoded(_decoded(name, content), "PNG")


def _thumbnail(name: str, path: Path, side: int) -> Picture:
    image = _decoded(name, _content(name, path))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(image, "JPEG")


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _gone(name) from error


def _decoded(name: str, content: bytes) -> Image.Image:
    try:
        return decode_image(content, f"picture '{name}'")
    except CIRError as error:
        raise _gone(name) from error


def _encoded(image: Image.Image, form: str) -> Picture:
    out = BytesIO()
    image.save(out, form, **({"quality": 85} if form == "JPEG" else {}))
    return _made(out.getvalue(), MEDIA_TYPES[form])


def _made(content: bytes, media_type: str) -> Picture:
    return Picture(content, media_type, hashlib.sha256(content).hexdigest()[:32])


def _gone(name: str) -> GoneError:
    return GoneError(
        f"the file of picture '{name[:100]}' has gone or is damaged since it was indexed\n"
        "accepted: the pictures that the index was made of; cir index brings it up to date"
    )
