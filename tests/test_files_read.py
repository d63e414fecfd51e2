"""Files that anybody may have written: whatever is wrong with one is one message that names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.bench.published import read_published
from cir_plugins.bench.suite import read_suite
from cir_plugins.bench.tables import tables_of
from cir_plugins.config.toml import parse_options, parse_set, read_config
from cir_plugins.data.readers.files import read_entries
from cir_plugins.errors import CIRError
from cir_plugins.files import DEEPEST, parse_json, parse_toml, read_json, read_text
from cir_plugins.runs.folder import check_record
from cir_plugins.runs.records import read_metrics
from tests.command import Call

DIGITS = "9" * 5_000
TOML: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config": ("config.toml", read_config),
    "suite": ("suite.toml", read_suite),
    "published": ("published.toml", read_published),
}
JSON: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "run": ("run.json", lambda file: check_record(file.parent)),
    "metrics": ("metrics.jsonl", read_metrics),
    "results": ("results.json", lambda file: tables_of(file.parent.parent, file.parent.name)),
    "annotations": ("cap.val.json", read_entries),
}
ANY = {**TOML, **JSON}


def message_of(read: Callable[[Path], Any], file: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(CIRError) as caught:
        read(file)
    message = str(caught.value)
    assert file.name in message
    assert len(message) < 1_000 + 3 * len(str(file))
    return message


@pytest.mark.parametrize("kind", TOML)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"x = {DIGITS}".encode(), "a number with thousands of digits"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"x = " + b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b".".join([b"x"] * 200) + b" = 1", "nested too deeply"),
        (b"x = \xff", "is not UTF-8 text"),
        (b"x = ", "is not valid TOML"),
    ],
)
def test_odd_toml_is_one_message(tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    name, read = TOML[kind]
    (tmp_path / name).write_bytes(content)
    assert message in message_of(read, tmp_path / name)


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{DIGITS}]".encode(), "a number with thousands of digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b'{"format": "\xff\xff"}', "is not UTF-8 text"),
        (b"{", "is not valid JSON"),
        (b"12", ""),
        (b"null", ""),
        (b'["a"]', ""),
        (b'"text"', ""),
    ],
)
def test_odd_json_is_one_message(tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    name, read = JSON[kind]
    (tmp_path / name).write_bytes(content)
    if kind == "run" and not message:
        with pytest.raises(CIRError, match=f"{name} holds "):
            read(tmp_path / name)
        return
    assert message in message_of(read, tmp_path / name)


@pytest.mark.parametrize("kind", ANY)
def test_pipes_devices_and_folders_are_refused(tmp_path: Path, kind: str) -> None:
    name, read = ANY[kind]
    file = tmp_path / name
    os.mkfifo(file)
    assert "is a pipe, socket or device" in message_of(read, file)
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "is a pipe, socket or device" in message_of(read, file)
    file.unlink()
    file.mkdir()
    assert "cannot be read: Is a directory" in message_of(read, file)


def test_values_of_options_are_bounded_too() -> None:
    for read in (parse_set, parse_options):
        key = "train.lr" if read is parse_set else "size"
        with pytest.raises(CIRError, match="thousands of digits"):
            read([f"{key}={DIGITS}"])
        with pytest.raises(CIRError, match="nested too deeply"):
            read([f"{key}={'[' * 100_000}"])
        with pytest.raises(CIRError, match="nested too deeply"):
            read([f"{key}={'[' * 200}{']' * 200}"])


def test_set_with_a_long_value_is_short(cir: Call) -> None:
    answer = cir("train", "dqe", "--data", "garments", "--set", f"train.epochs='{'x' * 100_000}'")
    assert answer.complains("train.epochs cannot be 'xxx")
    assert len(answer.err) < 2_000


def test_depth_is_bounded_alike_in_both() -> None:
    nested = "[" * DEEPEST + "]" * DEEPEST
    assert parse_json(nested, "a text")
    with pytest.raises(CIRError, match="a text is nested too deeply"):
        parse_json(f"[[{nested}]]", "a text")
    assert parse_toml(f"x = {'[' * 99}{']' * 99}", "a text")


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="cannot be read"):
        read_json(tmp_path / "a\0b")
    with pytest.raises(CIRError, match=r"some file .*gone does not exist"):
        read_text(tmp_path / "gone", "some file")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "line 2 of .*metrics.jsonl is"),
        ("{}", "line 2 of .*metrics.jsonl lacks: epoch"),
        ('{"epoch": -1}', "'epoch' of line 2 of .* cannot be -1; accepted: an integer of 0 or"),
        ('{"epoch": 1, "loss": "low"}', "'loss' of line 2 of .* cannot be 'low'"),
        ('{"epoch": 1, "mining": {}}', "line 2 of .* lacks: mining.negative_pool"),
        ('{"epoch": 1, "mining": 3}', "'mining' of line 2 of .*cannot be 3"),
        ("", "line 2 of .*metrics.jsonl is not valid JSON"),
    ],
)
def test_odd_lines_of_metrics_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"epoch": 0, "loss": NaN}}\n{line}\n')
    with pytest.raises(CIRError, match=message):
        read_metrics(file)
