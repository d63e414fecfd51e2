"""Random ``kill -9`` over every command that writes, then the same command again.

Each chain is one command that is killed up to four times, each time at a random moment of the
length that it has undisturbed, and then left alone. It holds where every attempt ends by the kill
or well, and the folder at the end equals the one of an undisturbed command. Prints tried, held and
failed, and one JSON line; ends with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Outcome, Running, must, run
from content import cache_content, difference, partial_files, run_content
from outcomes import Outcomes
from setting import Setting, prepare, quick_folder

KILLS_A_CHAIN = 4


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        name: What it is, for the counts.
        words: Words of the command that writes to a folder.
        again: Words of the command that goes on there.
        content: What the folder holds.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    again: Callable[[Path], Sequence[object]]
    content: Callable[[Path], Any] = run_content


def cases(setting: Setting, trained: Path) -> list[Case]:
    """The commands."""

    def training(name: str, *more: object, method: str = "contrastive") -> Case:
        def words(out: Path) -> list[object]:
            return setting.train(out, *more, method=method)

        def again(out: Path) -> list[object]:
            # One that was killed before it had a configuration is given its options again.
            begun = (out / "run.json").exists()
            return [*(["train", "--out", out] if begun else words(out)), "--resume"]

        return Case(name, words, again)

    def convert(out: Path) -> list[object]:
        return setting.convert(out)

    mined = ("--set", "backbone=tiny_blip2", "--set", "mining.start=1")
    return [
        training("train, workers 0"),
        training("train, workers 2", "--set", "run.workers=2"),
        training("train, mined negatives", *mined, method="dqe"),
        training("train, average of weights", "--set", "train.ema=0.9"),
        Case("bench", setting.bench, lambda out: setting.bench(out, "--resume")),
        Case(
            "encode",
            lambda out: setting.encode(trained, out),
            lambda out: setting.encode(trained, out),
        ),
        Case("convert", convert, convert),
    ]


class Campaign:
    """The chains of kills.

    Args:
        setting: Data and commands.
        outcomes: Where they are counted.
        rng: Draws the moments.
    """

    def __init__(self, setting: Setting, outcomes: Outcomes, rng: random.Random) -> None:
        self.setting, self.outcomes, self.rng = setting, outcomes, rng
        self.out = setting.folder / "out"
        self.undisturbed: dict[str, tuple[Any, float]] = {}

    def chain(self, case: Case, kills: int) -> None:
        """Kill a command so many times, let it finish, and compare."""
        expected, seconds = self._undisturbed(case)
        done, words, failure = 0, case.words(self.out), ""
        while done < kills and not failure:
            running = Running(words, self.setting.log)
            moment, everything = self.rng.uniform(0, seconds), self.rng.random() < 0.5
            outcome = running.kill_after(moment, everything=everything)
            words = case.again(self.out)
            if outcome.code == 0:  # it had ended before
                break
            done += 1
            failure = "" if outcome.code == -9 else f"before the kill, {outcome}"
        if not failure:
            failure = self._finished(case, words, expected)
        self.outcomes.add(case.name, failure, tries=done)
        shutil.rmtree(self.out, ignore_errors=True)

    def _finished(self, case: Case, words: Sequence[object], expected: Any) -> str:
        """What is wrong with the folder once the command has finished; "" for nothing."""
        outcome = run(words, self.setting.log)
        if case.name == "convert" and outcome.refused and "not empty" in outcome.message:
            pass  # it had ended before the kill
        elif outcome.code != 0:
            return f"afterwards, {outcome}"
        if parts := partial_files(self.out):
            return f"partial files are left: {parts}"
        return difference(expected, case.content(self.out))

    def _undisturbed(self, case: Case) -> tuple[Any, float]:
        if case.name not in self.undisturbed:
            seconds = must(case.words(self.out), self.setting.log).seconds
            self.undisturbed[case.name] = case.content(self.out), seconds
            shutil.rmtree(self.out)
        return self.undisturbed[case.name]

    def shared_cache(self, kills: int) -> None:
        """Three trainings fill one cache together; some are killed and started again."""
        frozen = ("--set", "backbone.tower=frozen")
        cache = self.setting.folder / "cache"

        def words(out: Path, *more: object) -> list[object]:
            return self.setting.train(out, *frozen, "--feature-cache", cache, *more)

        name = "shared feature cache"
        if name not in self.undisturbed:
            seconds = must(words(self.out), self.setting.log).seconds
            content = run_content(self.out), cache_content(cache)
            self.undisturbed[name] = content, seconds
            shutil.rmtree(self.out)
            shutil.rmtree(cache)
        (run_before, cache_before), seconds = self.undisturbed[name]
        outs = [self.setting.folder / f"out{number}" for number in range(3)]
        logs = [self.setting.folder / f"output{number}.txt" for number in range(3)]
        running = [Running(words(o), log) for o, log in zip(outs, logs, strict=True)]
        done, failure = 0, ""
        moments = sorted(self.rng.uniform(0, 2 * seconds) for _ in range(kills))
        began = time.perf_counter()
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            number = self.rng.randrange(3)
            outcome = running[number].poll() or running[number].kill(everything=True)
            done += outcome.code == -9
            if outcome.code not in (0, -9):
                failure = f"beside the others, {outcome}"
            resume = ("--resume",) if outs[number].exists() else ()
            running[number] = Running(words(outs[number], *resume), logs[number])
        outcomes: list[Outcome] = [process.wait() for process in running]
        for out, outcome in zip(outs, outcomes, strict=True):
            failure = failure or (f"afterwards, {outcome}" if outcome.code else "")
            failure = failure or difference(_without_cache(run_before), _content_without(out))
        failure = failure or difference(cache_before, cache_content(cache))
        self.outcomes.add(name, failure, tries=done)
        for folder in (*outs, cache):
            shutil.rmtree(folder, ignore_errors=True)


def _content_without(out: Path) -> Any:
    return _without_cache(run_content(out)) if out.exists() else {}


def _without_cache(content: dict[str, Any]) -> dict[str, Any]:
    """A run's content without what names its own folder."""
    return {name: value for name, value in content.items() if name != "config.toml"}


def campaign(tries: int, seed: int, setting: Setting, only: str = "") -> Outcomes:
    """The counts of a campaign of at least so many kills."""
    outcomes, rng = Outcomes("kills", seed), random.Random(seed)
    trained = setting.trained
    kills = Campaign(setting, outcomes, rng)
    every: list[Case | None] = [*cases(setting, trained), None]
    chosen = [c for c in every if only in (c.name if c else "shared feature cache")]
    number = 0
    with outcomes.interruptible():
        while outcomes.total < tries:
            case = chosen[number % len(chosen)]
            count = min(rng.randint(1, KILLS_A_CHAIN), tries - outcomes.total)
            if case is None:
                kills.shared_cache(count)
            else:
                kills.chain(case, count)
            number += 1
    return outcomes


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a case's name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        outcomes = campaign(options.tries, options.seed, prepare(Path(folder)), options.only)
    sys.exit(outcomes.finish())


if __name__ == "__main__":
    main()
