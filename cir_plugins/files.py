"""Files written whole or not at all, and JSON files among them."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cir_plugins.errors import CIRError

PARTIAL = ".part"  # ending of a file that is being written
STALE_SECONDS = 3600  # a partial file this old belongs to a process that was killed


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: into a sibling, to the disk, then renamed.

    The folder is made where it is missing. No two calls share a sibling, so that any number of
    processes may write one file. A killed process leaves its sibling: see ``remove_stale``.

    Args:
        path: The file.
        content: All of it.

    Raises:
        CIRError: If there is no space left or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_error(path, error) from error


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


def remove_stale(folder: Path, seconds: float = STALE_SECONDS) -> None:
    """Remove the partial files that killed processes left in a folder.

    Args:
        folder: The folder; may be missing.
        seconds: Age from which a partial file counts as left; 0 where no other process writes.
    """
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):  # another process may have removed or renamed it
            if time.time() - path.stat().st_mtime >= seconds:
                path.unlink()


def disk_error(path: Path, error: OSError) -> CIRError:
    """The error for a file that cannot be written."""
    if error.errno == errno.ENOSPC:
        return CIRError(
            f"no space left on the disk of {path.parent}; {path.name} was not written, what was "
            "there before is untouched. Free space and go on"
        )
    return CIRError(f"{path} cannot be written: {error.strerror or error}")
