"""Files: written whole or not at all, read with one message for whatever may be wrong."""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from cir_plugins.errors import CIRError

try:
    import fcntl
except ImportError:  # where there is none, the system itself removes no file that is open
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

V = TypeVar("V")
PARTIAL = ".part"  # ending of a file that is being written


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: into a sibling, to the disk, then renamed.

    The folder is made where it is missing. No two calls share a sibling, so that any number of
    processes may write one file. A killed process leaves its sibling, unlocked: see
    ``remove_stale``.

    Args:
        path: The file.
        content: All of it.

    Raises:
        CIRError: If there is no space left or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, file = _open_partial(path)
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if not _HAS_LOCKS:
                    file.close()
                os.replace(partial, path)  # still locked
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_error(path, error) from error


def _open_partial(path: Path) -> tuple[Path, BinaryIO]:
    """A new sibling of a file, open and locked for as long as it is open and its process lives."""
    while True:
        partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}{PARTIAL}")
        file = partial.open("xb")
        with suppress(OSError):  # a file system without locks
            if _HAS_LOCKS:
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()  # removed as a left one before it was locked


def check_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, whose reading would hang or never end.

    What is not there or is a folder is left to whatever opens it.

    Raises:
        CIRError: If it is one of them.
        OSError: If the path cannot be looked up.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CIRError(f"{path} is a pipe, socket or device\naccepted: a file")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; see ``json_bytes``.

    Raises:
        CIRError: If it cannot be written.
        ValueError: If the content is no JSON.
    """
    write_atomically(path, json_bytes(content))


def json_bytes(content: Any, *, compact: bool = False) -> bytes:
    """JSON in UTF-8, one member a line.

    Args:
        content: Plain values; a number that is not finite is no JSON.
        compact: Whether all of it stands in one line without spaces.

    Raises:
        ValueError: If the content is no JSON.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, **layout)
    # Half a surrogate pair, as broken file names have it, is written as JSON's own escape.
    return (text if compact else f"{text}\n").encode("utf-8", "backslashreplace")


def is_partial(name: str) -> bool:
    """Whether a file of that name was being written by ``write_atomically``."""
    return name.startswith(".") and name.endswith(PARTIAL)


def remove_stale(folder: Path) -> None:
    """Remove the partial files that killed processes left in a folder.

    Those that a living process writes are locked, and stay; so do all of them on a file system
    without locks.

    Args:
        folder: The folder; may be missing.
    """
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):  # renamed or removed meanwhile, or locked
            if not _HAS_LOCKS:
                path.unlink()
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def disk_error(path: Path, error: OSError) -> CIRError:
    """The error for a file that cannot be written."""
    if error.errno == errno.ENOSPC:
        return CIRError(
            f"no space left on the disk of {path.parent}; {path.name} was not written, what was "
            "there before is untouched. Free space and go on"
        )
    return CIRError(f"{path} cannot be written: {error.strerror or error}")


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
