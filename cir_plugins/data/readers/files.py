"""Annotation files and picture folders, read with errors that say which file, entry and key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cir_plugins.errors import CIRError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def need_folder(root: Path) -> None:
    """Nothing, if the folder is there; a ``CIRError`` otherwise."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise CIRError(
            f"data folder {root} {what}\naccepted: the folder that holds the annotations"
        )


def read_json(file: Path) -> object:
    """What a JSON file holds.

    Raises:
        CIRError: The file is missing, cannot be read, or is not whole, valid JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise CIRError(f"{file} does not exist") from error
    except OSError as error:
        raise CIRError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CIRError(f"{file} is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CIRError(
            f"{file} is not valid JSON, perhaps cut off: {error.msg}, {place}"
        ) from error
    except RecursionError as error:
        raise CIRError(f"{file} is nested too deeply to be an annotation file") from error


@dataclass(frozen=True)
class Entry:
    """One entry of an annotation file, whose getters check what they give.

    Attributes:
        file: Where it is from.
        place: Which entry, for messages: ``entry 12`` counts from 0.
        fields: What it says.
    """

    file: Path
    place: str
    fields: Mapping[str, object]

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.fields.get(key)
        if isinstance(value, str) and value:
            return value
        raise self.wrong(key, "a string that is not empty")

    def number(self, key: str) -> int:
        """A whole number from 0."""
        value = self.fields.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise self.wrong(key, "a whole number from 0")

    def texts(self, key: str) -> tuple[str, ...]:
        """One or more strings."""
        value = self.fields.get(key)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self.wrong(key, "a list of one or more strings")

    def numbers(self, key: str) -> tuple[int, ...]:
        """One or more whole numbers from 0, without repeats."""
        value = self.fields.get(key)
        if isinstance(value, list) and _different_numbers(value):
            return tuple(value)
        raise self.wrong(key, "a list of one or more different whole numbers from 0")

    def part(self, key: str) -> Entry:
        """The object under a key, as an entry of its own."""
        value = self.fields.get(key)
        if isinstance(value, dict):
            return Entry(self.file, f"{self.place}, '{key}'", value)
        raise self.wrong(key, "an object")

    def wrong(self, key: str, accepted: str) -> CIRError:
        """The error for a value that is not what is accepted."""
        if key not in self.fields:
            found = f"has no '{key}'"
        else:
            shown = repr(self.fields[key])
            short = shown if len(shown) <= 60 else f"{shown[:57]}..."
            found = f"has '{key}' = {short}"
        return CIRError(f"{self.file}, {self.place} {found}\naccepted: {accepted}")


def read_entries(file: Path) -> list[Entry]:
    """The entries of a JSON file that must hold a list of objects."""
    value = read_json(file)
    if not isinstance(value, list):
        raise CIRError(f"{file} holds {_kind(value)}\naccepted: a list of objects")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            accepted = "accepted: a list of objects"
            raise CIRError(f"{file}, entry {number} is {_kind(item)}\n{accepted}")
    return [Entry(file, f"entry {number}", item) for number, item in enumerate(value)]


def read_names(file: Path) -> tuple[str, ...]:
    """The strings of a JSON file that must hold a list of different strings that are not empty."""
    names = read_names_with_repeats(file)
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise CIRError(f"{file}, entry {number}: '{name}' is there a second time")
        seen.add(name)
    return names


def read_names_with_repeats(file: Path) -> tuple[str, ...]:
    """The strings of a JSON file that must hold a list of strings that are not empty."""
    value = read_json(file)
    if not isinstance(value, list):
        raise CIRError(f"{file} holds {_kind(value)}\naccepted: a list of strings")
    for number, item in enumerate(value):
        if not isinstance(item, str) or not item:
            accepted = "accepted: strings that are not empty"
            raise CIRError(f"{file}, entry {number} is {item!r:.60}\n{accepted}")
    return tuple(value)


def read_table(file: Path) -> dict[str, object]:
    """The members of a JSON file that must hold one object."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise CIRError(f"{file} holds {_kind(value)}\naccepted: one object")
    return value


def unique(entries: Iterable[tuple[Entry, str]], key: str) -> None:
    """Nothing, if no two entries have the same value; a ``CIRError`` that names both otherwise."""
    seen: dict[str, Entry] = {}
    for entry, value in entries:
        if value in seen:
            first = seen[value].place
            raise CIRError(f"{entry.file}, {entry.place} has the same '{key}' as {first}: {value}")
        seen[value] = entry


def walk_pictures(folder: Path) -> Iterator[Path]:
    """Every picture file in a folder and the folders in it, in a fixed order; links are followed.

    Empty when there is no such folder.
    """
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        # A link to a folder above would be walked for ever.
        real = os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(PICTURES):
                yield Path(directory, file)


def list_pictures(folder: Path) -> dict[str, Path]:
    """File name without ending -> file; of several with one name the first in order counts."""
    found: dict[str, Path] = {}
    for path in walk_pictures(folder):
        found.setdefault(path.stem, path)
    return found


def _different_numbers(values: list[object]) -> bool:
    whole = [value for value in values if type(value) is int and value >= 0]
    return 0 < len(set(whole)) == len(values)


def _kind(value: object) -> str:
    names: Mapping[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
