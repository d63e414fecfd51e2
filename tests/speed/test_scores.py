"""The scripts of benchmarks/speed at sizes that take no time, so that they cannot rot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


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
    found = lines("mining.py", *small, "--tokens", "1", "2")
    assert [(line["queries"], line["tokens"]) for line in found] == [(40, 1)] * 2 + [(4, 2)] * 2
    assert all(line["ratio_to_bare"] > 0 and line["extra_mib"] >= 0 for line in found)


def test_evaluation() -> None:
    """The script ends with an error where the contenders find different recalls."""
    (found,) = lines("evaluation.py", "--cases", "400x900x3", "--width", "8", "--runs", "1")
    assert (found["queries"], found["gallery"], found["answers"]) == (400, 900, 3)
    assert set(found["seconds"]) == set(found["extra_mib"]) == {"bare", "streamed", "sort"}
    assert 0 < found["recalls"]["any_recall@1"] < found["recalls"]["any_recall@50"] < 1
    # The sorted names alone are 400 x 900 x 10 characters of four bytes.
    assert found["extra_mib"]["sort"] > 10


def test_growth() -> None:
    small = ("--queries", "200", "--candidates", "400", "--width", "8", "--runs", "1")
    (found,) = lines("growth.py", *small, "--factors", "1", "4", "--works", "mining")
    assert (found["case"], found["candidates"]) == ("growth of mining", [400, 1600])
    assert len(found["seconds"]) == len(found["extra_mib"]) == 2
    assert -1 < found["exponent"] < 3
