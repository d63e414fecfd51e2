"""Picture files below a folder, found by their name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def pictures_by_number(folder: Path) -> dict[str, list[Path]]:
    """COCO's number of an image, without leading zeros -> its files.

    The number is all of a file's name or what follows the last ``_``, as in
    ``COCO_val2014_000000000042.jpg``. Other files are left out.
    """
    files: dict[str, list[Path]] = {}
    for path in walk_pictures(folder):
        number = path.stem.rpartition("_")[2]
        if number.isascii() and number.isdigit():
            files.setdefault(number.lstrip("0") or "0", []).append(path)
    return files


@dataclass(frozen=True)
class PictureFolder:
    """The pictures below a data folder, for annotations that name their paths.

    Attributes:
        files: Relative path, as annotations have it -> file.
        names: File name without ending -> its files, in order.
    """

    files: Mapping[str, Path]
    names: Mapping[str, Sequence[Path]]

    @classmethod
    def below(cls, root: Path, folders: Iterable[str] = ()) -> PictureFolder:
        """The pictures below ``root``; paths may leave out one of ``folders`` in it."""
        files: dict[str, Path] = {}
        names: dict[str, list[Path]] = {}
        for path in walk_pictures(root):
            files[path.relative_to(root).as_posix()] = path
            names.setdefault(path.stem, []).append(path)
        for folder in folders:
            for relative, path in list(files.items()):
                if relative.startswith(f"{folder}/"):
                    files.setdefault(relative.removeprefix(f"{folder}/"), path)
        return cls(files, names)

    def paths(self, relative: Mapping[str, str]) -> dict[str, Path]:
        """Image name -> file, of the pictures that are there: by relative path, else by name."""
        paths: dict[str, Path] = {}
        for name, path in relative.items():
            if path in self.files:
                paths[name] = self.files[path]
            elif name in self.names:
                paths[name] = self.names[name][0]
        return paths


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
