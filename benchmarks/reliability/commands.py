"""Commands of ``cir`` in forked processes, so that none of hundreds of tries imports torch anew."""

from __future__ import annotations

import faulthandler
import os
import random
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
from typing import Any

TRACEBACK, ENDED_ODDLY = 77, 78
LIMIT = 300.0  # seconds after which a command counts as hanging; undisturbed ones take a few
LONGEST = 1500  # characters of an output in a failure
POLL = 0.01


@dataclass(frozen=True)
class Length:
    """How long a command ran, in measures that no other load changes.

    Attributes:
        cpu: Seconds of processor time of its first process.
        events: Files and folders that it opened for writing, made, renamed or removed.
    """

    cpu: float = 0.0
    events: int = 0


@dataclass(frozen=True)
class Moment:
    """When a command kills itself with a signal that it does not notice.

    Attributes:
        cpu: After so many seconds of processor time; 0 for not.
        event: Just before the file event of this number, from 1; 0 for not.
        after: Just before the first file event after a file of this name was written.
        everything: Whether its loader workers die with it, as where a session is killed; else it
            alone, as by the kernel where memory is short.
    """

    cpu: float = 0.0
    event: int = 0
    after: str = ""
    everything: bool = True

    @classmethod
    def draw(cls, rng: random.Random, length: Length) -> Moment:
        """A moment of a command of that length: anywhere, or just before a file event."""
        everything = rng.random() < 0.5
        if rng.random() < 0.5:
            return cls(cpu=rng.uniform(0.001, length.cpu), everything=everything)
        return cls(event=rng.randint(1, length.events), everything=everything)


class FileEvents:
    """File events of this process, counted until its moment has come.

    Args:
        moment: When it is killed.
    """

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.process = os.getpid()
        self.count = 0
        self.written = False

    def begin(self) -> None:
        """Count from now on."""
        sys.addaudithook(self._notice)
        if self.moment.cpu:
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
            signal.setitimer(signal.ITIMER_PROF, self.moment.cpu)

    def end(self, file: Path) -> None:
        """Write how long it was."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_text(f"{time.process_time()} {self.count}")

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != self.process or not _writes(event, arguments):
            return
        self.count += 1
        if self.written or self.count == self.moment.event:
            os.kill(self.process, signal.SIGKILL)
        if event == "os.rename" and self.moment.after:
            self.written = Path(os.fsdecode(arguments[1])).name == self.moment.after


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


@dataclass(frozen=True)
class Outcome:
    """What a command came to.

    Attributes:
        code: Exit code; negative for the signal that ended it, None where it hung.
        output: Both streams.
        length: How long it ran, where it came to its end.
    """

    code: int | None
    output: str
    length: Length = Length()

    @property
    def killed(self) -> bool:
        """Whether it was killed at its moment."""
        return self.code in (-signal.SIGKILL, -signal.SIGPROF)

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
        moment: When it is killed; None for never.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        log: Path,
        limit: int | None = None,
        moment: Moment | None = None,
    ) -> None:
        self.log = log
        self.moment = moment
        log.with_suffix(".length").unlink(missing_ok=True)
        self.began = time.perf_counter()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become([str(word) for word in arguments], log, limit, moment or Moment())

    def poll(self) -> Outcome | None:
        """The outcome, or None where it still runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        if self.moment is not None and self.moment.everything:
            with suppress(ProcessLookupError):  # its workers
                os.killpg(self.pid, signal.SIGKILL)
        return Outcome(os.waitstatus_to_exitcode(status), self._output(), self._length())

    def wait(self, limit: float = LIMIT) -> Outcome:
        """The outcome; a process that still runs after ``limit`` seconds is killed."""
        while (outcome := self.poll()) is None:
            if time.perf_counter() - self.began > limit:
                os.kill(self.pid, signal.SIGUSR1)  # prints where it hangs
                time.sleep(0.5)
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return Outcome(None, self._output())
            time.sleep(POLL)
        return outcome

    def _length(self) -> Length:
        file = self.log.with_suffix(".length")
        if not file.exists():
            return Length()
        cpu, events = file.read_text().split()
        return Length(float(cpu), int(events))

    def _output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")


def _become(words: list[str], log: Path, limit: int | None, moment: Moment) -> None:
    """Run a command in this process, and end it."""
    code: object = TRACEBACK
    events = FileEvents(moment)
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

        events.begin()
        main(words)
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        events.end(log.with_suffix(".length"))
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
