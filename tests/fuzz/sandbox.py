"""Commands that run in this process, with what they wrote, how long they took and how much memory.

The rule for every damaged input: exit code 0, or one message and exit code 2 (1 where errors or
alarms were found); no traceback, bounded time and memory, nothing written outside of the folders
that the command was given.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cir_plugins import cli
from tests.command import Output

MOST_SECONDS = 60  # of the clock, on a machine that does other things too
MOST_CHARACTERS = 20_000  # of a message, which may hold a value of the input
MOST_MEGABYTES = 700  # that the highest memory use of the process may grow in one command
# What Python, torch's compiler and matplotlib make where they are imported.
_OF_LIBRARIES = ("__pycache__", "torchinductor_", f"{os.sep}matplotlib")
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link"})


class Hang(BaseException):
    """A command that took too long; no ``except Exception`` catches it."""


class _Writes:
    """Paths that this process opens for writing, makes, renames or removes."""

    def __init__(self) -> None:
        self.paths: set[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if mode else _writes(flags)
            if writes and not isinstance(path, int):
                self._add(path)
        elif event in _CHANGES:
            for path in arguments[: 2 if event == "os.rename" else 1]:
                self._add(path)

    def _add(self, path: Any) -> None:
        if self.paths is not None and isinstance(path, (str, bytes, os.PathLike)):
            self.paths.add(os.path.abspath(os.fsdecode(path)))

    @contextlib.contextmanager
    def watched(self) -> Iterator[set[str]]:
        self.paths = paths = set()
        try:
            yield paths
        finally:
            self.paths = None


def _writes(flags: int | None) -> bool:
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


_WRITES = _Writes()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"the command took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A check that what is done inside takes bounded time and memory."""
    memory = _megabytes()
    with _alarm(MOST_SECONDS):
        yield
    assert _megabytes() - memory < MOST_MEGABYTES, f"{_megabytes() - memory:.0f} MB more"


def run(*arguments: str | Path, writes: Sequence[Path] = ()) -> Output:
    """The output of a command, once the rule above is known to hold but for its message.

    Args:
        arguments: Words after ``cir``.
        writes: Files and folders that the command may write.
    """
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _WRITES.watched() as paths,
        bounded(),
    ):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    allowed = [*map(os.path.abspath, writes)]
    strange = [path for path in paths if not _is_allowed(path, allowed)]
    assert not strange, f"written outside of the given folders: {strange}"
    return Output(code or 0, out.getvalue(), err.getvalue())


def _is_allowed(path: str, allowed: Sequence[str]) -> bool:
    if path == os.devnull or any(name in path for name in _OF_LIBRARIES):
        return True
    return any(path == one or path.startswith(f"{one}{os.sep}") for one in allowed)


def holds(output: Output, *codes: int) -> Output:
    """The output, if it is a success, one of these further codes, or one message with code 2."""
    assert "Traceback" not in output.err, output.err
    if output.code in (0, *codes):
        return output
    assert output.complains(), f"code {output.code}: {output.err[-2000:]}"
    message = output.err.rpartition("error: ")[2]
    assert 0 < len(message.strip()) < MOST_CHARACTERS, f"a message of {len(message)} characters"
    return output
