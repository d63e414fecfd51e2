"""Commands that are interrupted or terminated: what they print, and their exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import join
from traceback import clear_frames
from types import FrameType, MappingProxyType

import typer

INTERRUPTED, TERMINATED = 130, 143


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as ``kill``, a cluster's time limit and ``torchrun`` send it."""


_AGAIN = 0.05  # seconds until an exception that Python left out is raised again
_SIGNALS: Mapping[type[BaseException], int] = MappingProxyType(
    {KeyboardInterrupt: signal.SIGINT, TerminatedError: signal.SIGTERM}
)


@contextmanager
def terminable() -> Iterator[None]:
    """A context in which SIGTERM raises ``TerminatedError`` instead of ending the process.

    Its exception and that of Ctrl-C are raised wherever they come.
    """
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

    def raise_again(lost: sys.UnraisableHookArgs) -> None:
        number = _SIGNALS.get(lost.exc_type)
        if number is None:
            hook(lost)
        elif os.getpid() == process:
            timer = threading.Timer(_AGAIN, os.kill, (process, number))
            timer.daemon = True
            timer.start()

    previous = signal.signal(signal.SIGTERM, terminate)
    # Where a signal comes during a fork, as of loader processes, or in a destructor, Python prints
    # its exception and goes on: Ctrl-C would be lost.
    hook, sys.unraisablehook = sys.unraisablehook, raise_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def resumable(*ways: tuple[Path, str]) -> Iterator[None]:
    """A context whose interruption prints the command that goes on.

    Args:
        ways: Files or folders, each with the command that goes on once it is there; the first
            counts. Where none is, the interruption is left to the command line, which names the
            same command.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        for path, command in ways:
            if path.exists():
                raise interruption(error, f"go on with: {command}") from error
        raise


def command_of(words: Sequence[str], *more: str) -> str:
    """The command of these words, and of those of ``more`` that are not there."""
    return join(["cir", *words, *(word for word in more if word not in words)])


def interruption(error: KeyboardInterrupt, advice: str) -> typer.Exit:
    """The exit of an interrupted command, once the first process has printed its message."""
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # its last line would stand before the message
    _drop_half_made(error)
    terminated = isinstance(error, TerminatedError)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{'terminated' if terminated else 'interrupted'}; {advice}", err=True)
    return typer.Exit(TERMINATED if terminated else INTERRUPTED)


def _drop_half_made(error: BaseException) -> None:
    """Remove what was being made when an exception came, whose destructors may fail aloud.

    A loader of torch whose processes were being started prints a traceback.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook
