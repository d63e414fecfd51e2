"""The scripts of benchmarks/speed at sizes that take no time, so that they cannot rot."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scripts' module of that name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "speed")
    return importlib.import_module("clock")


def lines(script: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a script prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / "speed" / script), *arguments]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_mining() -> None:
    small = ("--queries", "40", "--candidates", "30", "--width", "8", "--runs", "1")
    measured = lines("mining.py", *small, "--tokens", "1", "2")
    assert [(line["queries"], line["tokens"]) for line in measured] == [(40, 1)] * 2 + [(4, 2)] * 2
    assert all(0 <= line["extra_mib"] < 100 for line in measured)


def test_evaluation() -> None:
    """The script ends with an error where the contenders find different recalls."""
    (measured,) = lines("evaluation.py", "--cases", "400x900x3", "--width", "8", "--runs", "1")
    assert (measured["queries"], measured["gallery"], measured["positives"]) == (400, 900, 3)
    assert set(measured["seconds"]) == set(measured["extra_mib"]) == {"bare", "streamed", "sort"}
    assert 0 < measured["recalls"]["any_recall@1"] < measured["recalls"]["any_recall@50"] < 1
    # The sorted names alone are 400 x 900 x 10 characters of four bytes.
    assert measured["extra_mib"]["sort"] > 10


def test_growth(clock: Any) -> None:
    small = ("--queries", "200", "--candidates", "400", "--width", "8", "--runs", "1")
    (measured,) = lines("growth.py", *small, "--factors", "1", "4", "--works", "mining")
    assert (measured["case"], measured["candidates"]) == ("growth of mining", [400, 1600])
    assert len(measured["seconds"]) == len(measured["extra_mib"]) == 2
    assert measured["exponent"] == pytest.approx(
        clock.exponent([200, 800], measured["seconds"]), abs=0.3
    )


def test_protocols(garments_root: Path) -> None:
    small = ("--root", str(garments_root), "--backbones", "tiny_clip", "--runs", "1")
    (measured,) = lines("protocols.py", *small)
    assert (measured["case"], measured["protocols"]) == ("tiny_clip", 13)
    assert measured["ratio"] == measured["all_s"] / measured["one_s"]
    assert measured["single_calls_s"] > measured["all_s"]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_made_up_timings(clock: Any, power: float) -> None:
    """Made by 3e-9 (Q N)^power; a linear work that takes twice as long at 8N has 1 + 1/3."""
    cells = [4_000 * 2_500 * factor for factor in (1, 2, 4, 8)]
    times = [3e-9 * count**power for count in cells]
    assert clock.exponent(cells, times) == pytest.approx(power)
    ends = [cells[0], cells[-1]]
    slowed = [times[0], 2 * times[-1]]
    assert clock.exponent(ends, slowed) == pytest.approx(power + 1 / 3)


MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import clock, torch
mib = int(sys.argv[2])
buffer = torch.ones(64 * 2**18)
del buffer
memory = torch.ones(16 * 2**18)
print(clock.extra_mib(lambda: float(torch.ones(mib * 2**18).sum()), torch.device("cpu")))
print(clock.extra_mib(lambda: None, torch.device("cpu")), len(memory))
"""


@pytest.mark.parametrize("mib", [48, 160])
def test_memory_is_that_at_the_peak(mib: int) -> None:
    """Freed before the work ends, and beside what is held before and had been taken earlier.

    In a process of its own: the allocator of one that has done much keeps what was freed.
    """
    command = [sys.executable, "-c", MEMORY, str(ROOT / "benchmarks" / "speed"), str(mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured, nothing, _ = map(float, done.stdout.split())
    assert mib - 2 <= measured <= mib + 16
    assert nothing < 2
