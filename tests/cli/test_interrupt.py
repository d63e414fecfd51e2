from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import join
from typing import NoReturn

import pytest

from cir_plugins.cli.interrupt import TerminatedError, terminable
from cir_plugins.runs.lock import run_lock
from tests.command import Call
from tests.places import ROOT

SLOW = ["--set", "backbone=tiny_clip", "--set", "train.lr=1e-3", "--set", "run.workers=0"]


@pytest.mark.parametrize(
    ("number", "word", "code"),
    [(signal.SIGTERM, "terminated", 143), (signal.SIGINT, "interrupted", 130)],
)
def test_signal_prints_the_command_that_goes_on(
    garments_root: Path, tmp_path: Path, number: signal.Signals, word: str, code: int
) -> None:
    """SIGTERM ended without a word, and Ctrl-C did not say how to go on."""
    run = tmp_path / "a run"
    command = ["train", "contrastive", "--data", "fashioniq", "--root", str(garments_root)]
    command += ["--out", str(run), *SLOW, "--set", "train.epochs=500", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cir_plugins", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file() and time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(number)
    last = process.communicate(timeout=60)[1].splitlines()[-1]
    assert last.strip() == f"{word}; go on with: cir train --out '{run}' --resume"
    assert process.returncode == code
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["epoch"] == 0
    with run_lock(run):  # which the process no longer holds
        pass


def test_interrupted_suite_prints_its_command(
    cir: Call, tmp_path: Path, garments_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        (tmp_path / "out" / "runs").mkdir()
        raise TerminatedError

    monkeypatch.setattr("cir_plugins.bench.runner.execute", interrupt)
    words = ["bench", "quickstart", "--root", str(garments_root), "--out", str(tmp_path / "out")]
    output = cir(*words)
    assert output.code == 143
    command = f"cir {' '.join(words)} --resume"
    assert output.err.endswith(f"terminated; go on with: {command}\n")


def test_nothing_to_go_on_with_is_not_offered(
    cir: Call, tmp_path: Path, garments_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_plugins.runs.execute.execute", interrupt)
    arguments = ["train", "image_only", "--data", "fashioniq", "--root", garments_root]
    output = cir(*arguments, "--out", tmp_path / "run")
    command = join(["cir", *map(str, arguments), "--out", str(tmp_path / "run")])
    assert (output.code, output.err) == (130, f"interrupted; begin again with: {command}\n")


@pytest.mark.parametrize(
    ("words", "made", "wanted"),
    [
        (["train", "image_only", "--out", "RUN"], "", "begin again with: {0}"),
        (["train", "image_only", "--out", "RUN"], "config.toml", "go on with: {0} --resume"),
        (["train", "image_only", "--out", "RUN"], "run.json", "go on with: cir train --out RUN -"),
        (["train", "--out", "RUN", "--resume"], "config.toml", "go on with: {0}\n"),
        (["encode", "RUN", "--out", "RUN"], "shard", "begin again with: {0}"),
        (["list"], "", "begin again with: {0}"),
    ],
)
def test_every_command_says_how_to_go_on(
    cir: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    made: str,
    wanted: str,
) -> None:
    """Before the first checkpoint there was "interrupted" alone, or a command that failed."""
    monkeypatch.chdir(tmp_path)

    def interrupt(*_: object, **__: object) -> NoReturn:
        if made:
            Path("RUN").mkdir()
            (Path("RUN") / made).write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_plugins.cli.train.checked_plan", lambda *_: None)
    monkeypatch.setattr("cir_plugins.cli.train.print_notes", lambda *_: None)
    monkeypatch.setattr("cir_plugins.cli.train.run_together", interrupt)
    monkeypatch.setattr("cir_plugins.plugins.registry.Registry.load", interrupt)
    if words[0] == "encode":
        words = [*words, "--images", str(tmp_path)]
    output = cir(*words)
    command = join(["cir", *words])
    assert output.code == 130
    assert output.err.startswith(f"interrupted; {wanted.format(command)}")


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, TerminatedError), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signal_in_a_destructor_is_not_lost(number: signal.Signals, kind: type) -> None:
    """Python printed the exception and went on training; likewise during a fork."""

    class Signals:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    def lose_it() -> None:
        Signals()
        time.sleep(10)

    began = time.monotonic()
    with terminable(), pytest.raises(kind):
        lose_it()
    assert time.monotonic() - began < 5


def test_half_made_objects_are_removed_without_a_word(
    cir: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last lines were torch's traceback from the destructor of a half-made loader."""

    class HalfMade:
        def __init__(self) -> None:
            raise KeyboardInterrupt

        def __del__(self) -> None:
            raise AttributeError("_workers")

    monkeypatch.setattr("cir_plugins.plugins.registry.Registry.load", HalfMade)
    output = cir("list")
    assert (output.code, output.err) == (130, "interrupted; begin again with: cir list\n")


def test_forked_workers_end_as_before() -> None:
    """A process pool ends its workers by SIGTERM: they must not raise and print a traceback."""
    with terminable():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        with pytest.raises(TerminatedError):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("words", [["show", "method", "sprc"], ["list"]])
def test_a_reader_that_leaves_is_no_fault_of_a_component(words: list[str]) -> None:
    """``cir show ... | head -1`` said that a component had ended the command."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cir_plugins", *words],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
