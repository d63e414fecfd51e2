"""Bit flips, holes and cuts in every kind of file, then the command that reads it.

A damage holds where the command refuses it with one message that names the file (exit code 2),
where it is noticed and what was lost is computed again, or where the result is the same. It fails
with a traceback, a hang, or another number without a word. Prints tried, held and failed, and one
JSON line; ends with 1 if anything failed.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Moment, Outcome, Running, must, run
from content import cache_content, difference, file_content, run_content
from outcomes import Outcomes
from setting import Setting, run_campaign

FROZEN = ("--set", "backbone.tower=frozen")
HOLE = 512  # bytes of zeros, as a disk leaves them that lost a sector


@dataclass(frozen=True)
class Case:
    """A kind of file, and the command that reads it.

    Attributes:
        name: What it is, for the counts.
        source: The folder that holds the files, made when it is first needed; each try has a copy.
        files: Patterns of the files below it.
        words: The command on a copy of the folder, from the copy and the file of a report.
        content: What comes out, from the copy and the file of a report.
        outside: Whether the file is not one of this project: a changed one may be a valid one,
            which the data's fingerprint in the result then shows.
    """

    name: str
    source: Callable[[], Path]
    files: Sequence[str]
    words: Callable[[Path, Path], Sequence[object]]
    content: Callable[[Path, Path], Any]
    outside: bool = False


def of_report(_: Path, report: Path) -> Any:
    """The report of an evaluation."""
    return file_content(report)


def of_run(copy: Path, _: Path) -> Any:
    """The content of a run's or suite's folder."""
    return run_content(copy)


def of_output(_: Path, report: Path) -> Any:
    """The content of the folder that a command wrote beside the report."""
    return run_content(report.with_suffix(""))


def damaged(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file's content with one damage, and what it is."""
    kind = rng.choice(("flip", "flip", "flip", "cut", "hole"))
    if not content or kind == "cut":
        length = rng.randrange(len(content)) if content else 0
        return content[:length], f"cut to {length} bytes"
    # Half of the flips in the first kilobyte: headers are small and hold most of the meaning.
    place = rng.randrange(min(len(content), rng.choice((1024, len(content)))))
    changed = bytearray(content)
    if kind == "flip":
        bit = rng.randrange(8)
        changed[place] ^= 1 << bit
        return bytes(changed), f"bit {bit} of byte {place}"
    changed[place : place + HOLE] = bytes(len(changed[place : place + HOLE]))
    return bytes(changed), f"zeros from byte {place}"


class Campaign:
    """The damages.

    Args:
        setting: Data and commands.
        outcomes: Where they are counted.
        rng: Draws files and damages.
    """

    def __init__(self, setting: Setting, outcomes: Outcomes, rng: random.Random) -> None:
        self.setting, self.outcomes, self.rng = setting, outcomes, rng
        self.expected: dict[str, Any] = {}

    def attempt(self, case: Case) -> None:
        """Damage a file of a case, run its command, and compare what it says."""
        if case.name not in self.expected:
            outcome, content = self._run(case, lambda copy: "")
            if outcome.code != 0:
                raise RuntimeError(f"undamaged, {case.name}: {outcome}")
            self.expected[case.name] = content
        what: dict[str, str] = {}

        def harm(copy: Path) -> str:
            file = self.rng.choice([f for p in case.files for f in sorted(copy.glob(p))])
            content, what["damage"] = damaged(file.read_bytes(), self.rng)
            file.write_bytes(content)
            what["file"] = file.relative_to(copy).as_posix()
            return file.name

        outcome, content = self._run(case, harm)
        failure, word = self._judge(case, what["file"], outcome, content)
        failure = failure and f"{what['file']}, {what['damage']}: {failure}"
        self.outcomes.add(f"{case.name}: {Path(what['file']).suffix[1:]}", failure, outcome=word)

    def _run(self, case: Case, harm: Callable[[Path], str]) -> tuple[Outcome, Any]:
        copy, report = self.setting.folder / "copy", self.setting.folder / "report.json"
        shutil.copytree(case.source(), copy)
        try:
            harm(copy)
            outcome = run(case.words(copy, report), self.setting.log)
            try:
                return outcome, case.content(copy, report) if outcome.code in (0, 1) else None
            except Exception as error:  # whatever a damaged file makes of reading it
                return outcome, {"unreadable": f"{type(error).__name__}: {error}"}
        finally:
            shutil.rmtree(copy)
            report.unlink(missing_ok=True)
            shutil.rmtree(report.with_suffix(""), ignore_errors=True)

    def _judge(self, case: Case, file: str, outcome: Outcome, content: Any) -> tuple[str, str]:
        """What is wrong, or else in which way it held."""
        named = Path(file).name in outcome.output or Path(file).stem in outcome.output
        if outcome.code == 2 and outcome.refused:
            return ("", "refused") if named else (f"the file is not named: {outcome}", "")
        if "Traceback" in outcome.output or outcome.code not in (0, 1):
            return str(outcome), ""
        if outcome.code == 1:  # a row of a suite
            return ("", "row refused") if named else (f"the file is not named: {outcome}", "")
        if not (other := difference(self.expected[case.name], content)):
            return "", "computed again" if named else "equal"
        if case.outside and _fingerprints(content) != _fingerprints(self.expected[case.name]):
            return "", "other data, said so"
        return f"another result: {other}", ""


def _fingerprints(content: Any) -> Any:
    """What a report says of its data."""
    return content.get("data") if isinstance(content, dict) else None


class Sources:
    """Folders that are damaged, each made when it is first needed.

    Args:
        setting: Data and commands.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def _made(self, name: str, words: Callable[[Path], Sequence[object]]) -> Path:
        folder = self.setting.folder / name
        if not folder.exists():
            must(words(folder), self.setting.log)
        return folder

    def trained(self) -> Path:
        """A trained run."""
        return self.setting.trained

    def warm(self) -> Path:
        """A run with frozen weights of another."""
        more = ("--from", self.trained(), *FROZEN)
        return self._made("from", lambda out: self.setting.train(out, *more))

    def cached(self) -> Path:
        """A run that has filled the feature cache."""
        more = (*FROZEN, "--feature-cache", self.setting.folder / "cache")
        return self._made("cached", lambda out: self.setting.train(out, *more))

    def cache(self) -> Path:
        """The feature cache."""
        return self.cached().with_name("cache")

    def cut(self) -> Path:
        """A run that was killed after its first epoch."""
        out = self.setting.folder / "cut"
        if not out.exists():
            moment = Moment(after="metrics.jsonl")
            Running(self.setting.train(out), self.setting.log, moment=moment).wait()
        return out

    def shards(self) -> Path:
        """Encoded images."""
        return self._made("shards", lambda out: self.setting.encode(self.trained(), out))

    def index(self) -> Path:
        """An index of the images."""
        return self._made("index", lambda out: self.setting.index(self.trained(), out))

    def suite(self) -> Path:
        """Results of the suite."""
        return self._made("suite", self.setting.bench)

    def converted(self) -> Path:
        """A converted run."""
        return self._made("converted", self.setting.convert)

    def official(self) -> Path:
        """Official files."""
        return self.setting.official[0].parent

    def data(self) -> Path:
        """Annotations and images."""
        return self.setting.data


def cases(setting: Setting) -> list[Case]:
    """The kinds of file, each with its command."""
    at = Sources(setting)

    def evaluate(run: Path, report: Path) -> list[object]:
        return setting.evaluation(run, report)

    def evaluate_converted(run: Path, report: Path) -> list[object]:
        own = ("--data", "fashioniq", "--root", setting.data)
        return setting.evaluation(run, report, *own, "--set", 'data.categories=["dress"]')

    def resume(run: Path, _: Path) -> list[object]:
        return ["train", "--out", run, "--resume"]

    def encode_from(run: Path, report: Path) -> list[object]:
        return setting.encode(run, report.with_suffix(""))

    def others(copy: Path) -> Any:
        whole = cache_content(at.cache())
        now = cache_content(copy)  # it may lack training images, which the evaluation does not read
        return {name: value for name, value in now.items() if whole[name] != value}

    def bench_runs(copy: Path, report: Path) -> list[object]:
        own = ("--runs", copy, "--root", at.suite() / "data", "--methods", "contrastive")
        return setting.bench(report.with_suffix(""), *own)

    plain = ("best.safetensors", "config.toml", "run.json")
    every = (*plain, "*.json*", "checkpoint.safetensors")
    return [
        Case("eval", at.trained, plain, evaluate, of_report),
        Case("eval, warm start", at.warm, ("frozen.safetensors", *plain), evaluate, of_report),
        Case("eval, converted", at.converted, plain, evaluate_converted, of_report),
        Case("train --resume, finished", at.trained, every, resume, of_run),
        Case("train --resume, cut off", at.cut, (*every, "check*"), resume, of_run),
        Case("train --resume, warm start", at.warm, ("frozen*", "config.toml"), resume, of_run),
        Case("encode, run", at.trained, plain, encode_from, of_output),
        Case(
            "encode, shards",
            at.shards,
            ("*.safetensors", "manifest.json"),
            lambda copy, _: setting.encode(at.trained(), copy),
            of_run,
        ),
        Case("search", at.index, ("[a-z]*",), setting.search, of_report),
        Case(
            "index again",
            at.index,
            ("[a-z]*",),
            lambda copy, _: setting.index(at.trained(), copy),
            of_run,
        ),
        Case(
            "feature cache",
            at.cache,
            ("*/*.safetensors", "images.json"),
            lambda copy, report: setting.evaluation(at.cached(), report, "--feature-cache", copy),
            lambda copy, report: {**of_report(copy, report), "others": others(copy)},
        ),
        Case(
            "bench --resume",
            at.suite,
            ("rows/*", "values/*", "results.json", "data.json"),
            lambda copy, _: setting.bench(copy, "--resume"),
            of_run,
        ),
        Case(
            "bench --runs",
            at.suite,
            tuple(f"runs/contrastive-seed0/{name}" for name in plain),
            bench_runs,
            of_output,
        ),
        *_outside(setting, at),
    ]


def _outside(setting: Setting, at: Sources) -> list[Case]:
    """Files that others wrote."""

    def there(copy: Path) -> tuple[object, ...]:
        return "--data", "fashioniq", "--root", copy, "--set", 'data.categories=["dress"]'

    def converted(copy: Path, report: Path) -> list[object]:
        words = setting.convert(report.with_suffix(""))
        return [copy / w.name if w in setting.official else w for w in map(_path, words)]

    images = json.loads((setting.data / "image_splits" / "split.dress.val.json").read_text())
    return [
        Case("official files", at.official, ("*.pt",), converted, of_output),
        Case(
            "annotations",
            at.data,
            ("captions/cap.dress.val.json", "image_splits/split.dress.val.json"),
            lambda copy, report: setting.evaluation(at.trained(), report, *there(copy)),
            of_report,
            outside=True,
        ),
        Case(
            "images",
            at.data,
            tuple(f"images/{name}.*" for name in images),
            lambda copy, report: setting.evaluation(at.trained(), report, *there(copy)),
            of_report,
            outside=True,
        ),
    ]


def _path(word: object) -> Any:
    return word if isinstance(word, Path) else str(word)


def campaign(tries: int, seed: int, setting: Setting, only: str = "") -> Outcomes:
    """The counts of a campaign of so many damages."""
    outcomes, rng = Outcomes("damage", seed), random.Random(seed)
    damages = Campaign(setting, outcomes, rng)
    chosen = [case for case in cases(setting) if only in case.name]
    with outcomes.interruptible():
        for number in range(tries):
            damages.attempt(chosen[number % len(chosen)])
    return outcomes


if __name__ == "__main__":
    sys.exit(run_campaign(__doc__, campaign, 500))
