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
def run_lock(folder: Path, doing: str = "trains") -> Iterator[None]:
    """A context that holds the lock of a folder, which the system frees however a process ends.

    The folder is made where it is missing. Where nothing was written, it is left as it was.

    Args:
        folder: Folder of a run, of a suite's results or of an index.
        doing: What another process that holds it does there, for messages.

    Raises:
        CIRError: If another process holds the lock, or the folder cannot be made.
    """
    if folder.is_file():
        raise CIRError(f"run folder {folder} is a file; accepted: a new or empty folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    file, before = folder / LOCK, {path.name for path in folder.iterdir()}
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CIRError(
            f"{folder} is in use: another process {doing} there; accepted: wait until it has "
            "ended, or another --out"
        ) from error
    except OSError as error:
        raise disk_error(file, error) from error
    try:
        yield
    finally:
        # A folder that was written in keeps the file: one that vanishes under a process that waits
        # for it would let two of them in.
        if {path.name for path in folder.iterdir()} - before == {LOCK}:
            file.unlink()
        lock.release()
        with suppress(OSError):  # a folder that is not empty stays
            for path in missing:
                path.rmdir()
