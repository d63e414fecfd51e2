"""Picture files below a folder, found by their name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jfif")
ENDINGS = f"({'|'.join(ending.removeprefix('.') for ending in PICTURES)})"


def walk_pictures(folder: Path) -> Iterator[Path]:
    """Every picture file in a folder and the folders in it, in a fixed order.

    Linked folders come after all others, and a folder that was there before is left out: neither
    a circle of links nor a link beside the pictures changes anything. Empty when there is no such
    folder.
    """
    seen: set[str] = set()
    starts = [str(folder)]
    for start in starts:  # grows by the links that are met
        for directory, folders, files in os.walk(start):
            real = os.path.realpath(directory)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            below = (os.path.join(directory, name) for name in folders)
            starts += [path for path in below if os.path.islink(path)]
            for file in sorted(files):
                if file.lower().endswith(PICTURES):
                    yield Path(directory, file)


def pictures_by_name(folder: Path) -> dict[str, list[Path]]:
    """File name without ending -> its files, in the order of ``walk_pictures``."""
    files: dict[str, list[Path]] = {}
    for path in walk_pictures(folder):
        files.setdefault(path.stem, []).append(path)
    return files


def list_pictures(folder: Path) -> dict[str, Path]:
    """File name without ending -> file; of several with one name the first in order counts."""
    return {name: paths[0] for name, paths in pictures_by_name(folder).items()}


def ambiguity_notes(
    names: Iterable[str], files: Mapping[str, Sequence[Path]], choice: str
) -> list[str]:
    """A note on names with several files; none where every name has one.

    Args:
        names: Image ids that the data set uses.
        files: Files of each name, the one that counts first.
        choice: How to choose another one.
    """
    ambiguous = [name for name in names if len({os.path.realpath(p) for p in files[name]}) > 1]
    if not ambiguous:
        return []
    name = ambiguous[0]
    first, second = files[name][:2]
    return [
        f"{len(ambiguous):,} image names are ambiguous, as several files have them: '{name}' is "
        f"{first} (this one counts) and {second}; to choose, {choice}"
    ]
