"""Random ``kill -9`` over every command that writes, then the same command again.

Each chain is one command that is killed up to four times, each time at a random moment of the
length that it has undisturbed, and then left alone. Lengths are processor time and file events,
which no other load changes. It holds where every attempt ends by the kill
or well, and the folder at the end equals the one of an undisturbed command. Prints tried, held and
failed, and one JSON line; ends with 1 if anything failed.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from commands import LIMIT, POLL, Length, Moment, Outcome, Running, must, run
from content import cache_content, difference, partial_files, run_content
from outcomes import Outcomes
from setting import Setting, run_campaign

KILLS_A_CHAIN = 4
TOGETHER = 3  # trainings that share a cache


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

    def indexing(backend: str) -> Case:
        def words(out: Path) -> list[object]:
            return setting.index(trained, out, "--backend", backend)

        return Case(f"index, {backend}", words, words)

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
        *(indexing(name) for name in ("exact", *(["faiss"] if find_spec("faiss") else []))),
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
        self.undisturbed: dict[str, tuple[Any, Length]] = {}

    def chain(self, case: Case, kills: int) -> None:
        """Kill a command so many times, let it finish, and compare."""
        expected, length = self._undisturbed(case)
        done, words, failure = 0, case.words(self.out), ""
        while done < kills and not failure:
            moment = Moment.draw(self.rng, length)
            outcome = Running(words, self.setting.log, moment=moment).wait()
            words = case.again(self.out)
            if _had_ended(case, outcome):
                break
            done += 1
            failure = "" if outcome.killed else f"before the kill, {outcome}"
        if not failure:
            failure = self._finished(case, words, expected)
        self.outcomes.add(case.name, failure, tries=done)
        shutil.rmtree(self.out, ignore_errors=True)

    def _finished(self, case: Case, words: Sequence[object], expected: Any) -> str:
        """What is wrong with the folder once the command has finished; "" for nothing."""
        outcome = run(words, self.setting.log)
        if not _had_ended(case, outcome):
            return f"afterwards, {outcome}"
        if parts := partial_files(self.out):
            return f"partial files are left: {parts}"
        return difference(expected, case.content(self.out))

    def _undisturbed(self, case: Case) -> tuple[Any, Length]:
        if case.name not in self.undisturbed:
            length = must(case.words(self.out), self.setting.log).length
            self.undisturbed[case.name] = case.content(self.out), length
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
            length = must(words(self.out), self.setting.log).length
            content = run_content(self.out), cache_content(cache)
            self.undisturbed[name] = content, length
            shutil.rmtree(self.out)
            shutil.rmtree(cache)
        (run_before, cache_before), length = self.undisturbed[name]
        outs = [self.setting.folder / f"out{number}" for number in range(TOGETHER)]
        moments: list[list[Moment]] = [[] for _ in outs]
        for _ in range(kills):
            self.rng.choice(moments).append(Moment.draw(self.rng, length))
        done, outcomes = self._together(words, outs, moments)
        failure = ""
        for out, outcome in zip(outs, outcomes, strict=True):
            failure = failure or (f"afterwards, {outcome}" if outcome.code else "")
            failure = failure or difference(_without_cache(run_before), _content_without(out))
        failure = failure or difference(cache_before, cache_content(cache))
        self.outcomes.add(name, failure, tries=done)
        for folder in (*outs, cache):
            shutil.rmtree(folder, ignore_errors=True)

    def _together(
        self,
        words: Callable[..., Sequence[object]],
        outs: Sequence[Path],
        moments: Sequence[list[Moment]],
    ) -> tuple[int, list[Outcome]]:
        """Number of kills and last outcomes of commands side by side, started again when killed."""
        logs = [self.setting.folder / f"output{number}.txt" for number in range(len(outs))]

        def start(number: int, *more: object) -> Running:
            left = moments[number]
            moment = left.pop() if left else None
            return Running(words(outs[number], *more), logs[number], moment=moment)

        running = {number: start(number) for number in range(len(outs))}
        done, outcomes, end = 0, dict[int, Outcome](), time.monotonic() + LIMIT
        while running:
            for number, process in list(running.items()):
                outcome = process.poll() if time.monotonic() < end else process.wait(0)
                if outcome is None:
                    continue
                if outcome.killed:
                    done += 1
                    resume = ("--resume",) if outs[number].exists() else ()
                    running[number] = start(number, *resume)
                else:
                    outcomes[number] = outcome
                    del running[number]
            time.sleep(POLL)
        return done, [outcomes[number] for number in range(len(outs))]


def _had_ended(case: Case, outcome: Outcome) -> bool:
    """Whether a command came to its end; a conversion says so where it did before a kill."""
    occupied = outcome.refused and "not empty" in outcome.message
    return outcome.code == 0 or (case.name == "convert" and occupied)


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


if __name__ == "__main__":
    sys.exit(run_campaign(__doc__, campaign, 200))
