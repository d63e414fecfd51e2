"""Annotation files, read with errors that name the file, the entry and the key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr

from cir_plugins import files
from cir_plugins.errors import CIRError

_SURROGATE = re.compile("[\ud800-\udfff]")
_TITLES: Mapping[str, str] = {
    "cirr": "CIRR",
    "fashioniq": "FashionIQ",
    "circo": "CIRCO",
    "shoes": "Shoes",
    "fashion200k": "Fashion200k",
    "genecis": "GeneCIS",
    "lasco": "LaSCo",
    "icir": "i-CIR",
}
# Files that only one data set has.
_MARKS: Mapping[str, tuple[str, ...]] = {
    "circo": ("annotations/val.json", "annotations/test.json"),
    "shoes": ("relative_captions_shoes.json",),
    "fashion200k": ("labels/*_detect_all.txt",),
    "genecis": ("change_object.json", "focus_object.json"),
    "lasco": ("lasco_train.json", "lasco_val.json"),
    "icir": ("query_files.csv", "annotations/query_files.csv"),
}
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def need_folder(root: Path) -> None:
    """Nothing, if the folder is there; a ``CIRError`` otherwise."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise CIRError(
            f"data folder {root} {what}\naccepted: the folder that holds the annotations"
        )


def layout_hint(root: Path, name: str) -> str:
    """A line that names another data set whose layout a folder has; empty where it has none."""
    captions = {file.name for file in root.glob("captions/cap.*.json")}
    cirr = any(file.startswith("cap.rc2.") for file in captions) or any(
        root.glob("cirr/captions/cap.rc2.*.json")
    )
    layouts = {"cirr": cirr, "fashioniq": bool(captions) and not cirr}
    for other, patterns in _MARKS.items():
        layouts[other] = any(any(root.glob(pattern)) for pattern in patterns)
    others = [other for other, there in layouts.items() if there and other != name]
    return f"\nthis looks like {_TITLES[others[0]]}: --data {others[0]}" if others else ""


def no_training_split(name: str) -> CIRError:
    """The error for training on a data set that can only be evaluated on."""
    return CIRError(
        f"{_TITLES[name]} has no training split\ntrain on another data set, such as --data cirr, "
        f"and evaluate that run: cir eval RUN --data {name} --root DIR"
    )


def nothing_to_read(root: Path, looked_for: str, name: str) -> CIRError:
    """The error for a folder without the annotations of a data set."""
    return CIRError(f"nothing to read in {root}\nlooked for: {looked_for}{layout_hint(root, name)}")


def read_json(file: Path) -> object:
    """The content of a JSON file.

    Raises:
        CIRError: The file is missing, cannot be read, or is not whole, valid JSON.
    """
    value = files.read_json(file)
    _check_characters(file, value)
    return value


def _check_characters(file: Path, value: object) -> None:
    """Refuse half characters, which JSON can escape and no file name or terminal can hold."""
    text = json.dumps(value, ensure_ascii=False)
    half = _SURROGATE.search(text)
    if half:
        before = text[max(0, half.start() - 40) : half.start()]
        raise CIRError(
            f"{file} has half of a character (\\u{ord(half[0]):04x}, a lone surrogate) after: "
            f"{_SURROGATE.sub('?', before)}\naccepted: whole characters"
        )


def short(value: object) -> str:
    """A value for a message, cut to 60 characters, however long or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Entry:
    """One entry of an annotation file; its getters check the values.

    Attributes:
        file: Where it is from.
        label: Which entry, for messages: ``entry 12`` counts from 0.
        fields: Its members.
    """

    file: Path
    label: str
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

    def child(self, key: str) -> Entry:
        """The object under a key, as an entry of its own."""
        value = self.fields.get(key)
        if isinstance(value, dict):
            return Entry(self.file, f"{self.label}, '{key}'", value)
        raise self.wrong(key, "an object")

    def children(self, key: str) -> tuple[Entry, ...]:
        """The objects of a list under a key, one or more, as entries of their own."""
        value = self.fields.get(key)
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            where = f"{self.label}, '{key}'"
            return tuple(Entry(self.file, f"{where} {n}", item) for n, item in enumerate(value))
        raise self.wrong(key, "a list of one or more objects")

    def wrong(self, key: str, accepted: str) -> CIRError:
        """The error for a value that is not what is accepted."""
        if key not in self.fields:
            value = f"has no '{key}'"
        else:
            value = f"has '{key}' = {short(self.fields[key])}"
        return CIRError(f"{self.file}, {self.label} {value}\naccepted: {accepted}")


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
            raise CIRError(f"{file}, entry {number} is {short(item)}\n{accepted}")
    return tuple(value)


def read_table(file: Path) -> dict[str, object]:
    """The members of a JSON file that must hold one object."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise CIRError(f"{file} holds {_kind(value)}\naccepted: one object")
    return value


def read_lines(file: Path) -> list[tuple[str, str]]:
    """The stripped lines of a text file that are not blank, each after its label (``line 3``)."""
    lines = files.read_text(file).split("\n")
    return [
        (f"line {number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()
    ]


def unique(entries: Iterable[tuple[Entry, str]], key: str) -> None:
    """Nothing, if no two entries have the same value; otherwise a ``CIRError`` with both."""
    seen: dict[str, Entry] = {}
    for entry, value in entries:
        if value in seen:
            first = seen[value].label
            raise CIRError(f"{entry.file}, {entry.label} has the same '{key}' as {first}: {value}")
        seen[value] = entry


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
