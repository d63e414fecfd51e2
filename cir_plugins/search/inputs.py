"""Pictures, ids, texts and weights as users of an index give them, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from cir_plugins.data.inputs import named_images
from cir_plugins.encoding.export import images_of
from cir_plugins.errors import CIRError, shown

Pictures: TypeAlias = "str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, Any]"
"""A folder, files, or id -> file."""


def check_weight(weight: object) -> None:
    """Check the share of the text in a query.

    Raises:
        CIRError: If it is no number from 0 to 1.
    """
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 <= weight <= 1:  # type: ignore[operator]
        raise CIRError(f"weight cannot be {shown(weight)}; accepted: a number from 0 to 1")


def several_ids(names: object) -> list[str]:
    """Ids of pictures, given as one or several.

    Raises:
        CIRError: If they are none.
    """
    if isinstance(names, str):
        return [names] if names else []
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise CIRError(f"{shown(names)} is no id of a picture; accepted: an id, or several")
    return list(names)


def checked_text(text: object) -> str:
    """A text without blanks around it.

    Raises:
        CIRError: If it is no text that UTF-8 can hold.
    """
    if not isinstance(text, str):
        raise CIRError(f"a text cannot be {type(text).__name__}; accepted: a text")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise CIRError("the text has half of a character; accepted: text that UTF-8 can hold")
    return text.strip()


def files_of(images: Pictures) -> tuple[dict[str, Path], Path | None]:
    """Id -> file, and the folder that the ids are paths below, if they are.

    Raises:
        CIRError: If there is no picture, something is no file, or two have the same id.
    """
    if isinstance(images, str | PathLike):
        folder = Path(images)
        if not folder.is_dir():
            raise CIRError(f"{folder} is no folder of pictures; accepted: a folder, or files")
        return images_of(folder), folder
    ids, sources = named_images(images)
    wrong = [each for each in sources if not isinstance(each, str | PathLike)]
    if wrong:
        raise CIRError("pictures in memory cannot be indexed; accepted: files")
    if len(set(ids)) != len(ids):
        raise CIRError("two pictures have the same id; accepted: ids without repeats")
    return {name: Path(each) for name, each in zip(ids, sources, strict=True)}, None  # type: ignore[arg-type]
