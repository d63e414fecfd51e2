"""Commands that are interrupted or terminated: what they print, and their exit codes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

INTERRUPTED, TERMINATED = 130, 143


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as ``kill``, a cluster's time limit and ``torchrun`` send it."""


@contextmanager
def terminable() -> Iterator[None]:
    """A context in which SIGTERM raises ``TerminatedError`` instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def terminate(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker ends as it would without this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise TerminatedError

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def resumable(command: str, path: Path) -> Iterator[None]:
    """A context whose interruption prints the command that goes on.

    Args:
        command: The command.
        path: File or folder that is there once there is something to go on with.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise interruption(error, command if path.exists() else "") from error


def interruption(error: KeyboardInterrupt, command: str = "") -> typer.Exit:
    """The exit of an interrupted command, once the first process has printed its message."""
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # its last line would stand before the message
    terminated = isinstance(error, TerminatedError)
    if os.environ.get("RANK", "0") == "0":
        word = "terminated" if terminated else "interrupted"
        typer.echo(f"{word}; go on with: {command}" if command else word, err=True)
    return typer.Exit(TERMINATED if terminated else INTERRUPTED)
