"""Worker processes: they end with the process that started them, and are missed by one message."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cir_plugins.errors import CIRError

_DEATH = "DataLoader worker (pid"  # how all that torch says of the death of a worker begins


def follow_parent(*_: object) -> None:
    """Let this worker process end when the process that started it ends, killed or not.

    It is called in the worker: as ``worker_init_fn`` of a loader, or ``initializer`` of a pool.
    Workers of a killed process would else wait for it, some of them for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, name="follow_parent", daemon=True).start()


@contextmanager
def worker_errors() -> Iterator[None]:
    """A context, or decorator, in which the death of a loader worker is an error with the way on.

    Torch raises it wherever the main process is at that moment, not only where a batch is awaited.

    Raises:
        CIRError: If a loader's worker process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if _DEATH not in str(error):
            raise
        raise CIRError(
            "a loader process was killed, as the system does when memory or /dev/shm is full\n"
            "nothing that was written is lost: the same command goes on, a training or suite "
            "with --resume\nfewer processes: run.workers=N"
        ) from error
