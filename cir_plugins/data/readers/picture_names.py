"""Pictures by what a table calls them: a path, a file name, either without its ending."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PureWindowsPath

from cir_plugins.data.readers.pictures import PICTURES, walk_pictures

_MOST_NEAREST = 20_000  # names; a search for the nearest of more takes seconds


@dataclass(frozen=True)
class PictureNames:
    """The pictures below a folder, and the ids that names in a table stand for.

    An id is a path below the folder, with forward slashes and its ending: ``shoes/a1.jpg``.

    Attributes:
        folder: The folder.
        files: Id -> file, in the order of the folders.
        prefix: The folder's own path, as cells may have it before the id.
    """

    folder: Path
    files: Mapping[str, Path]
    prefix: str = ""

    @classmethod
    def below(cls, folder: Path, prefix: str = "") -> PictureNames:
        """The pictures in a folder and the folders in it."""
        files = {path.relative_to(folder).as_posix(): path for path in walk_pictures(folder)}
        return cls(folder, files, prefix)

    def ids(self, name: str) -> tuple[str, ...]:
        """Ids of the pictures that a name may stand for: one, none, or several if it is ambiguous.

        A path counts before a path without its ending, then a file name, then one without its
        ending; where nothing fits, upper and lower case are alike.
        """
        path = self.path(name)
        if path in self.files:
            return (path,)
        for table in (self._by_path, self._by_name, self._by_loose_name):
            found = table.get(path) or table.get(_loose(path))
            if found:
                return tuple(found)
        return ()

    def path(self, name: str) -> str:
        """A name as a path below the folder, without the folder itself where it stands before."""
        path = PureWindowsPath(name).as_posix() if "\\" in name else name
        path = path.removeprefix(self._before).removeprefix("./")
        if self.prefix and path not in self.files:
            path = path.removeprefix(f"{self.prefix}/")
        return path

    def nearest(self, name: str) -> str:
        """The id that is written most like a name; "" where none is."""
        if len(self.files) > _MOST_NEAREST:
            return ""
        return next(iter(get_close_matches(self.path(name)[:200], self.files, n=1, cutoff=0.7)), "")

    @cached_property
    def _before(self) -> str:
        return f"{self.folder.absolute().as_posix()}/"

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _table(self.files, without_ending)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names = _table(self.files, posixpath.basename)
        stems = _table(self.files, lambda path: without_ending(posixpath.basename(path)))
        return stems | names

    @cached_property
    def _by_loose_name(self) -> dict[str, list[str]]:
        """As above, by paths, names and stems in lower case and composed characters."""
        paths = _table(self.files, _loose)
        stems = _table(self.files, lambda path: _loose(without_ending(path)))
        names = _table(self._by_name, _loose)
        names = {
            key: list(dict.fromkeys(path for name in same for path in self._by_name[name]))
            for key, same in names.items()
        }
        return names | stems | paths


def without_ending(path: str) -> str:
    """A path without the ending of a picture, if it has one."""
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in PICTURES else path


def _loose(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _table(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for path in paths:
        table.setdefault(key(path), []).append(path)
    return table


def unknown_pictures(
    pictures: PictureNames, rows_of: Mapping[str, Sequence[str]]
) -> list[tuple[str, Sequence[str]]]:
    """What is wrong with names that stand for no picture or several, and the rows that have them.

    Args:
        pictures: The pictures.
        rows_of: Rows by the name that they have.
    """
    reasons: list[tuple[str, Sequence[str]]] = []
    for name, rows in rows_of.items():
        ids = pictures.ids(name)
        if len(ids) > 1:
            reasons.append((f"'{name:.80}' may be {ids[0]} or {ids[1]}", rows))
        elif not ids:
            near = pictures.nearest(name) if len(reasons) < 3 else ""
            hint = f" (nearest: {near})" if near else ""
            reasons.append((f"no picture '{name:.80}'{hint}", rows))
    return reasons
