"""The lock of a run folder: one process, or one group of processes, at a time writes in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cir_plugins.errors import CIRError
from cir_plugins.files import disk_error

LOCK = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """A context that holds the lock of a folder, which the system frees however a process ends.

    The folder is made where it is missing, and removed at the end if it is still empty.

    Args:
        folder: Folder of a run or of a suite's results.

    Raises:
        CIRError: If another process holds the lock, or the folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    file = folder / LOCK
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CIRError(
            f"{folder} is in use: another process trains there; accepted: wait until it has "
            "ended, or another --out"
        ) from error
    except OSError as error:
        raise disk_error(file, error) from error
    try:
        yield
    finally:
        # A folder that is in use keeps the file: one that vanishes under a process that waits for
        # it would let two of them in.
        if missing and [path.name for path in folder.iterdir()] == [LOCK]:
            file.unlink()
        lock.release()
        with suppress(OSError):  # a folder that is not empty stays
            for path in missing:
                path.rmdir()
