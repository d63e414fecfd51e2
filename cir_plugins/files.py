"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cir_plugins.errors import CIRError


def write_atomically(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file whole or not at all: into a sibling, to the disk, then renamed.

    Args:
        path: The file.
        content: All of it.
        shared: Whether several processes may write it at once. Its folder is then made where it is
            missing, and the sibling's name is this call's own: what a killed process leaves
            behind stays there. Otherwise it is always the same, so that leavings do not add up.

    Raises:
        CIRError: If there is no space left or the folder cannot be written.
    """
    own = f".{secrets.token_hex(6)}" if shared else ""
    part = path.with_name(f".{path.name}{own}.part")
    try:
        if shared:
            path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
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


def disk_error(path: Path, error: OSError) -> CIRError:
    """What to tell the user when a file cannot be written."""
    if error.errno == errno.ENOSPC:
        return CIRError(
            f"no space left on the disk of {path.parent}; {path.name} was not written, what was "
            "there before is untouched. Free space and go on"
        )
    return CIRError(f"{path} cannot be written: {error}")
