from __future__ import annotations

import os
from pathlib import Path

import pytest

from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    read_entries,
    read_json,
    read_names,
    read_table,
    unique,
)
from cir_plugins.errors import CIRError
from tests.layouts import write_json


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    need_folder(tmp_path)
    with pytest.raises(CIRError, match=r"data folder .*gone does not exist\naccepted: the folder"):
        need_folder(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(CIRError, match="file is not a folder"):
        need_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}, {"a"', r"a\.json is not valid JSON, perhaps cut off: .*line 1, column 16"),
        (b"", r"a\.json is not valid JSON.*line 1, column 1"),
        (b'["\xff"]', r"a\.json is not UTF-8 text \(byte 2\)"),
        (b"[" * 200_000, r"a\.json is nested too deeply"),
        (b"[" + b"9" * 5_000 + b"]", r"a\.json has a number with thousands of digits"),
        (b'["a \\ud83d\\ude00", "half \\ud83d"]', r"a\.json has half of a character .*half \n"),
        (b'["\xed\xa0\xbd"]', r"a\.json is not UTF-8 text"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(CIRError, match=message):
        read_json(file)


def test_whole_characters_may_be_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'["\\ud83d\\ude00"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f600"]


def test_a_pipe_or_device_is_no_file(tmp_path: Path) -> None:
    """Reading a pipe hung for ever, and /dev/zero filled the memory."""
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("a", "zero"):
        with pytest.raises(CIRError, match=rf"{name}\.json is a pipe, socket or device"):
            read_json(tmp_path / f"{name}.json")


def test_deep_values_are_named_without_an_overflow(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CIRError, match=r"has 'key' = \[\["):
        Entry(Path("f.json"), "entry 0", {"key": deep}).text("key")
    while deep:  # a deep list is taken apart by recursion, too
        deep = deep[0]  # type: ignore[assignment]


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"gone\.json does not exist"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(CIRError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "holds an object\naccepted: a list of objects"),
        (3, "holds a number\naccepted: a list of objects"),
        ([{}, "b"], "entry 1 is a string\naccepted: a list of objects"),
    ],
)
def test_entries_must_be_objects(tmp_path: Path, value: object, message: str) -> None:
    write_json(tmp_path / "a.json", value)
    with pytest.raises(CIRError, match=message):
        read_entries(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds an object\naccepted: a list of strings"),
        (["a", 2], "entry 1 is 2\naccepted: strings"),
        ([""], "entry 0 is ''"),
        (["a", "b", "a"], "entry 2: 'a' is there a second time"),
    ],
)
def test_names_must_be_different_strings(tmp_path: Path, value: object, message: str) -> None:
    write_json(tmp_path / "a.json", value)
    with pytest.raises(CIRError, match=message):
        read_names(tmp_path / "a.json")


def test_a_table_must_be_an_object(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [])
    with pytest.raises(CIRError, match="holds a list\naccepted: one object"):
        read_table(tmp_path / "a.json")


def test_getters_give_what_is_there() -> None:
    fields = {"t": "a", "n": 0, "ts": ["a", ""], "ns": [3, 1], "p": {"q": "r"}}
    entry = Entry(Path("f.json"), "entry 3", fields)
    assert (entry.text("t"), entry.number("n")) == ("a", 0)
    assert (entry.texts("ts"), entry.numbers("ns")) == (("a", ""), (3, 1))
    assert entry.child("p").text("q") == "r"


@pytest.mark.parametrize(
    ("getter", "value", "accepted"),
    [
        ("text", "", "a string that is not empty"),
        ("text", 3, "a string that is not empty"),
        ("number", -1, "a whole number from 0"),
        ("number", True, "a whole number from 0"),
        ("number", "3", "a whole number from 0"),
        ("texts", "a", "a list of one or more strings"),
        ("texts", [], "a list of one or more strings"),
        ("texts", ["a", None], "a list of one or more strings"),
        ("numbers", [1, 1], "a list of one or more different whole numbers"),
        ("numbers", [], "a list of one or more different whole numbers"),
        ("numbers", [True], "a list of one or more different whole numbers"),
        ("numbers", [-1], "a list of one or more different whole numbers"),
        ("child", [], "an object"),
    ],
)
def test_getters_name_file_entry_and_key(getter: str, value: object, accepted: str) -> None:
    entry = Entry(Path("f.json"), "entry 3", {"key": value})
    with pytest.raises(CIRError, match=rf"f\.json, entry 3 has 'key' = .*\naccepted: {accepted}"):
        getattr(entry, getter)("key")
    with pytest.raises(CIRError, match=rf"f\.json, entry 3 has no 'other'\naccepted: {accepted}"):
        getattr(entry, getter)("other")


def test_long_values_are_cut_in_messages() -> None:
    entry = Entry(Path("f.json"), "entry 0", {"key": ["x" * 1000]})
    with pytest.raises(CIRError) as caught:
        entry.text("key")
    assert len(str(caught.value)) < 200


def test_repeats_name_both_entries() -> None:
    entries = [Entry(Path("f.json"), f"entry {number}", {}) for number in range(3)]
    unique(zip(entries, "abc", strict=True), "id")
    with pytest.raises(CIRError, match="entry 2 has the same 'id' as entry 0: a"):
        unique(zip(entries, "aba", strict=True), "id")
