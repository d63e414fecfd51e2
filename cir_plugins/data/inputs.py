"""Images and texts as Python users give them: paths or pictures, one or many."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from PIL.Image import Image

from cir_plugins.data.images import as_rgb, open_image
from cir_plugins.errors import CIRError

ImageLike: TypeAlias = "str | PathLike[str] | Image"
"""A path, or a picture in memory."""
Images: TypeAlias = "ImageLike | Sequence[ImageLike] | Mapping[str, ImageLike]"
"""One image, several, or id -> image."""
Texts: TypeAlias = "str | Sequence[str | tuple[str, ...]]"
"""One text, or one for each query; a tuple holds the captions of one query."""


def named_images(images: Images) -> tuple[tuple[str, ...], list[ImageLike]]:
    """Ids and images; ids are keys of a mapping, path strings, or numbers for pictures in memory.

    Raises:
        CIRError: If there is none, or something is no image.
    """
    if isinstance(images, Mapping):
        ids, sources = tuple(str(name) for name in images), list(images.values())
    else:
        one = isinstance(images, str | PathLike | Image)
        sources = [images] if one else list(images)  # type: ignore[list-item, arg-type]
        ids = tuple(
            str(number) if isinstance(each, Image) else str(each)
            for number, each in enumerate(sources)
        )
    wrong = [each for each in sources if not isinstance(each, str | PathLike | Image)]
    if wrong:
        raise CIRError(
            f"an image cannot be {type(wrong[0]).__name__}; accepted: a path or a PIL picture"
        )
    if not sources:
        raise CIRError("there is no image to encode; accepted: one or more paths or PIL pictures")
    return ids, sources


def paired(
    images: Sequence[ImageLike], texts: Texts
) -> tuple[list[ImageLike], list[tuple[str, ...]]]:
    """Image and captions of each query; a single image or text stands for all.

    Raises:
        CIRError: If there is no text, or the numbers differ.
    """
    several = [texts] if isinstance(texts, str) else list(texts)
    captions = [(each,) if isinstance(each, str) else tuple(each) for each in several]
    if not captions or not all(captions):
        raise CIRError("there is no text to encode; accepted: one text, or one for each image")
    count = max(len(images), len(captions))
    if {len(images), len(captions)} - {1, count}:
        raise CIRError(
            f"{len(images)} images and {len(captions)} texts make no queries; accepted: as many "
            "texts as images, or one of either"
        )
    return list(images) * (count // len(images)), captions * (count // len(captions))


def identity(image: ImageLike) -> Hashable:
    """What is the same for the same image: its path, or the picture in memory."""
    return id(image) if isinstance(image, Image) else str(image)


def opened(image: ImageLike) -> Image:
    """The picture as RGB, by the same rules from a file and from memory.

    Raises:
        CIRError: If it cannot be read.
    """
    return as_rgb(image) if isinstance(image, Image) else open_image(Path(image))
