"""JSON and TOML read from files that anybody may have written; every failure is one message."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cir_plugins.errors import CIRError
from cir_plugins.files import check_regular

V = TypeVar("V")
DEEPEST = 100  # lists and tables within one another


def read_json(path: Path, what: str = "") -> object:
    """The content of a JSON file, in any of the encodings that JSON has.

    Args:
        path: The file.
        what: What it is, for messages, such as ``config file``.

    Raises:
        CIRError: If it is missing, no regular file, cannot be read or is not whole, valid JSON.
    """
    where = f"{what} {path}".lstrip()
    content = _read_bytes(path, where)
    return parse_json(_decode(content, json.detect_encoding(content), where), where)


def read_toml(path: Path, what: str = "") -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: The file.
        what: What it is, for messages, such as ``config file``.

    Raises:
        CIRError: If it is missing, no regular file, cannot be read or is not valid TOML.
    """
    return parse_toml(read_text(path, what), f"{what} {path}".lstrip())


def read_text(path: Path, what: str = "") -> str:
    """The content of a text file in UTF-8.

    Args:
        path: The file.
        what: What it is, for messages, such as ``config file``.

    Raises:
        CIRError: If it is missing, no regular file, cannot be read or is not UTF-8.
    """
    where = f"{what} {path}".lstrip()
    return _decode(_read_bytes(path, where), "utf-8", where)


def parse_json(text: str, where: str) -> object:
    """The value of a JSON text.

    Args:
        text: The text.
        where: Where it stands, for messages.

    Raises:
        CIRError: If it is not whole, valid JSON, nests deeper than ``DEEPEST`` or has a number of
            thousands of digits.
    """
    try:
        return _parsed(json.loads, text, where)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CIRError(
            f"{where} is not valid JSON, perhaps cut off: {error.msg}, {place}"
        ) from error


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Args:
        text: The text.
        where: Where it stands, for messages.

    Raises:
        CIRError: If it is not valid TOML, nests deeper than ``DEEPEST`` or has a number of
            thousands of digits. A ``TOMLDecodeError`` is its cause if it is not valid.
    """
    try:
        return _parsed(tomllib.loads, text, where)
    except tomllib.TOMLDecodeError as error:
        raise CIRError(f"{where} is not valid TOML: {str(error)[:200]}") from error


def _parsed(parse: Callable[[str], V], text: str, where: str) -> V:
    try:
        value = parse(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError):
        raise
    except ValueError as error:  # Python's own bound on the digits of a number
        raise CIRError(f"{where} has a number with thousands of digits") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    if _is_deep(value):
        raise _too_deep(where)
    return value


def _too_deep(where: str) -> CIRError:
    return CIRError(
        f"{where} is nested too deeply\n"
        f"accepted: {DEEPEST} lists or tables within one another at most"
    )


def _is_deep(value: object) -> bool:
    """Whether a value nests deeper than ``DEEPEST``."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            item
            for each in level
            if isinstance(each, (list, dict))
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, (list, dict))
        ]
        if not level:
            return False
    return True


def _read_bytes(path: Path, where: str) -> bytes:
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CIRError(f"{where} does not exist") from error
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise CIRError(f"{where} cannot be read: {reason}") from error


def _decode(content: bytes, encoding: str, where: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise CIRError(f"{where} is not UTF-8 text (byte {error.start})") from error
