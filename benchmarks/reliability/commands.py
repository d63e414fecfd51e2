"""Commands of ``cir`` in forked processes, so that none of hundreds of tries imports torch anew."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TRACEBACK, ENDED_ODDLY = 77, 78
LIMIT = 60.0  # seconds after which a command counts as hanging, where a campaign sets no other
LONGEST = 1500  # characters of an output in a failure
_POLL = 0.01


@dataclass(frozen=True)
class Outcome:
    """What a command came to.

    Attributes:
        code: Exit code; negative for the signal that ended it, None where it hung.
        output: Both streams.
        seconds: How long it ran.
    """

    code: int | None
    output: str
    seconds: float

    @property
    def message(self) -> str:
        """The error message; "" where there is none, or a traceback."""
        found = re.findall(r"^error: .*", self.output, re.MULTILINE | re.DOTALL)
        return "" if "Traceback" in self.output or not found else str(found[0]).strip()

    @property
    def refused(self) -> bool:
        """Whether it ended with one message and exit code 2."""
        one = len(re.findall(r"^error: ", self.output.replace("\r", "\n"), re.MULTILINE)) == 1
        return self.code == 2 and one and "Traceback" not in self.output

    def __str__(self) -> str:
        ending = "hung" if self.code is None else f"exit code {self.code}"
        return f"{ending}: {self.output.strip()[-LONGEST:]}"


class Running:
    """A command in a forked process of a session of its own.

    Args:
        arguments: Words after ``cir``.
        log: File that receives both streams.
        limit: Largest size of a file that it may write, in bytes; None for any.
    """

    def __init__(self, arguments: Sequence[object], log: Path, limit: int | None = None) -> None:
        self.log = log
        self.began = time.perf_counter()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become([str(word) for word in arguments], log, limit)

    def poll(self) -> Outcome | None:
        """The outcome, or None where it still runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        seconds = time.perf_counter() - self.began
        return Outcome(os.waitstatus_to_exitcode(status), self._output(), seconds)

    def wait(self, limit: float = LIMIT) -> Outcome:
        """The outcome; a process that still runs after ``limit`` seconds is killed."""
        while (outcome := self.poll()) is None:
            if time.perf_counter() - self.began > limit:
                os.kill(self.pid, signal.SIGUSR1)  # prints where it hangs
                time.sleep(0.5)
                self.kill(everything=True)
                return Outcome(None, self._output(), limit)
            time.sleep(_POLL)
        return outcome

    def kill(self, *, everything: bool) -> Outcome:
        """Kill it with signal 9.

        Args:
            everything: Whether its loader workers die with it, as where a session is killed;
                else it alone, as by the kernel where memory is short.
        """
        with suppress(ProcessLookupError):
            (os.killpg if everything else os.kill)(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.perf_counter() - self.began
        return Outcome(os.waitstatus_to_exitcode(status), self._output(), seconds)

    def kill_after(self, seconds: float, *, everything: bool) -> Outcome:
        """The outcome of a process that is killed then, unless it has ended before."""
        while time.perf_counter() - self.began < seconds:
            if (outcome := self.poll()) is not None:
                return outcome
            time.sleep(min(_POLL, max(0.0, seconds - (time.perf_counter() - self.began))))
        return self.poll() or self.kill(everything=everything)

    def _output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")


def _become(words: list[str], log: Path, limit: int | None) -> None:
    """Run a command in this process, and end it."""
    code: object = TRACEBACK
    try:
        os.setsid()
        faulthandler.register(signal.SIGUSR1)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from cir_plugins.cli import main

        main(words)
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        _close_workers()
        os._exit(code if isinstance(code, int) else ENDED_ODDLY)


def _close_workers() -> None:
    """End the loader workers that are left, as the end of an interpreter does."""
    import multiprocessing

    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join(5)


def run(arguments: Sequence[object], log: Path, limit: float = LIMIT) -> Outcome:
    """The outcome of a command that nobody disturbs."""
    return Running(arguments, log).wait(limit)


def must(arguments: Sequence[object], log: Path) -> Outcome:
    """The outcome of a command that has to succeed.

    Raises:
        RuntimeError: If it does not.
    """
    outcome = run(arguments, log)
    if outcome.code:
        raise RuntimeError(f"cir {' '.join(map(str, arguments))}: {outcome}")
    return outcome


def warm(work: Callable[[], object]) -> None:
    """Run something in this process for the modules that it imports; its output is discarded."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # a thread would not survive a fork
    saved = [os.dup(stream) for stream in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nothing, stream)
        with suppress(SystemExit):
            work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nothing)
