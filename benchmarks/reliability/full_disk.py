"""Commands that write on a disk which is full at a random point, then has room again.

The disk is a small file system in memory, mounted for each try; where mounting is not allowed, the
largest size of a file is limited instead. A try holds where the command ends well or with one
message and exit code 2, every file that is there is whole, and the same command, once there is
room, ends with what an undisturbed one writes. Prints tried, held and failed, and one JSON line;
ends with 1 if anything failed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Outcome, Running, run
from content import cache_content, difference, file_content, partial_files, run_content
from outcomes import Outcomes
from setting import Setting, run_campaign

PAGE = 4096
ROOM = "64m"


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        name: What it is, for the counts.
        words: Words of the command that writes to a folder.
        again: Words of the command that goes on there.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    again: Callable[[Path], Sequence[object]]


def cases(setting: Setting, trained: Path) -> list[Case]:
    """The commands."""
    frozen = ("--set", "backbone.tower=frozen")

    def simple(name: str, words: Callable[[Path], Sequence[object]]) -> Case:
        return Case(name, words, words)

    def resumed(name: str, words: Callable[[Path], list[object]]) -> Case:
        return Case(name, words, lambda out: [*words(out), "--resume"])

    def cached(out: Path) -> list[object]:
        return setting.train(out / "run", *frozen, "--feature-cache", out / "cache")

    def check(out: Path) -> list[object]:
        data = _without_images(setting)
        return ["check", "--data", "fashioniq", "--root", data, "--list", out / "list.txt"]

    def make_data(out: Path) -> list[object]:
        words = ("make-data", "garments", "--out", out / "set", "--images", 60)
        return [*words, "--set", "size=32", "--workers", 1]

    return [
        resumed("train", setting.train),
        resumed("train, feature cache", cached),
        resumed("bench", setting.bench),
        simple("encode", lambda out: setting.encode(trained, out)),
        simple("index", lambda out: setting.index(trained, out)),
        simple("convert", lambda out: setting.convert(out / "run")),
        simple("eval --json", lambda out: setting.evaluation(trained, out / "report.json")),
        simple("make-data", make_data),
        simple("check --list", check),
    ]


def _without_images(setting: Setting) -> Path:
    """The data with none of its images, so that the list of what is missing is long."""
    folder = setting.folder / "without-images"
    if not folder.exists():
        shutil.copytree(setting.data, folder, ignore=shutil.ignore_patterns("*.jpg"))
        (folder / "images").mkdir(exist_ok=True)
    return folder


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A context in which an empty folder is a file system of that size.

    Raises:
        PermissionError: If none can be mounted here.
    """
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PermissionError("no file system can be mounted") from error


def can_mount(folder: Path) -> bool:
    """Whether file systems can be mounted on a folder."""
    try:
        with small_disk(folder, PAGE):
            return True
    except PermissionError:
        return False


def disk_content(disk: Path) -> dict[str, Any]:
    """What a disk holds, features by image: the names of a cache's shards are drawn."""
    cache = disk / "out" / "cache"
    files = {k: v for k, v in run_content(disk).items() if not k.startswith("out/cache/")}
    return {**files, "cache": cache_content(cache)}


class Campaign:
    """The full disks.

    Args:
        setting: Data and commands.
        outcomes: Where they are counted.
        rng: Draws the sizes.
        mounted: Whether disks are mounted; else the size of files is limited.
    """

    def __init__(
        self, setting: Setting, outcomes: Outcomes, rng: random.Random, *, mounted: bool
    ) -> None:
        self.setting, self.outcomes, self.rng, self.mounted = setting, outcomes, rng, mounted
        self.undisturbed: dict[str, tuple[Any, int, int]] = {}

    def attempt(self, case: Case) -> None:
        """Run a command on a disk that is too small, then on one with room."""
        if case.name not in self.undisturbed:
            self.undisturbed[case.name] = self._run_undisturbed(case)
        _, total, largest = self.undisturbed[case.name]
        disk = self.setting.folder / "disk"
        disk.mkdir()
        if self.mounted:
            size = PAGE * self.rng.randint(1, -(-total // PAGE))
            with small_disk(disk, size):
                before = Running(case.words(disk / "out"), self.setting.log).wait()
                failure = self._fault(disk, before)
                if not failure:
                    _mount("-o", f"remount,size={ROOM}", str(disk))
                    failure = self._goes_on(case, disk, before)
        else:
            size = self.rng.randint(0, largest)
            before = Running(case.words(disk / "out"), self.setting.log, size).wait()
            failure = self._fault(disk, before) or self._goes_on(case, disk, before)
        shutil.rmtree(disk)
        failure = failure and f"{size} bytes: {failure}"
        self.outcomes.add(case.name, failure, outcome="refused" if before.code else "fitted")

    def _run_undisturbed(self, case: Case) -> tuple[Any, int, int]:
        """Content, size on disk and largest file of what a command writes."""
        disk = self.setting.folder / "disk"
        disk.mkdir()
        outcome = run(case.words(disk / "out"), self.setting.log)
        if not _ended(case, outcome):
            raise RuntimeError(f"undisturbed, {case.name}: {outcome}")
        content = disk_content(disk)
        sizes = [path.stat().st_size for path in disk.rglob("*") if path.is_file()]
        shutil.rmtree(disk)
        # While a file is replaced, the old one is there too.
        return content, sum(PAGE * (1 + -(-size // PAGE)) for size in sizes), max(sizes)

    def _fault(self, disk: Path, outcome: Outcome) -> str:
        """What is wrong after the disk was full; "" for nothing."""
        if outcome.code not in (0, 1, 2) or "Traceback" in outcome.output:
            return str(outcome)
        if outcome.code == 2 and not outcome.refused:
            return f"not one message: {outcome}"
        if outcome.code == 2 and not _speaks_of_the_disk(outcome.output):
            return f"the disk is not named: {outcome}"
        if parts := partial_files(disk):
            return f"partial files are left: {parts}"
        return next(filter(None, map(_half_written, sorted(disk.rglob("*")))), "")

    def _goes_on(self, case: Case, disk: Path, before: Outcome) -> str:
        """What is wrong once the disk has room; "" for nothing."""
        expected = self.undisturbed[case.name][0]
        if not (_ended(case, before) and case.words is case.again):
            outcome = run(case.again(disk / "out"), self.setting.log)
            occupied = outcome.refused and "not empty" in outcome.message
            if not _ended(case, outcome) and not (occupied and _ended(case, before)):
                return f"with room, {outcome}"
        return difference(expected, disk_content(disk))


def _ended(case: Case, outcome: Outcome) -> bool:
    """Whether a command has done its work."""
    return outcome.code == (1 if case.name == "check --list" else 0)


def _speaks_of_the_disk(output: str) -> bool:
    words = ("no space left", "No space left", "are free", "File too large", "cannot be written")
    return any(word in output for word in words)


def _half_written(path: Path) -> str:
    """What is wrong with a file that is not whole; "" for nothing."""
    if not path.is_file() or path.name == ".lock":
        return ""
    try:
        if path.suffix == ".toml":
            tomllib.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jpg":
            from PIL import Image

            Image.open(path).load()
        else:
            file_content(path)
    except Exception as error:  # whatever reading half a file raises
        return f"{path.name} is half-written: {type(error).__name__}: {error}"
    return "" if path.stat().st_size else f"{path.name} is empty"


def campaign(tries: int, seed: int, setting: Setting, only: str = "") -> Outcomes:
    """The counts of a campaign of so many full disks."""
    mounted = can_mount(setting.data / "meta")
    if not mounted:
        print("nothing can be mounted here: the size of files is limited", file=sys.stderr)
    outcomes, rng = Outcomes("full disk", seed), random.Random(seed)
    trained = setting.trained
    disks = Campaign(setting, outcomes, rng, mounted=mounted)
    chosen = [case for case in cases(setting, trained) if only in case.name]
    with outcomes.interruptible():
        for number in range(tries):
            disks.attempt(chosen[number % len(chosen)])
    return outcomes


if __name__ == "__main__":
    sys.exit(run_campaign(__doc__, campaign, 100))
