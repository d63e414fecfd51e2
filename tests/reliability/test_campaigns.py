"""A few tries of each campaign of benchmarks/reliability, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "reliability"


SMALL = """
import json, sys
from pathlib import Path
import damage, full_disk, kills
from setting import prepare
setting = prepare(Path(sys.argv[1]))
kills.campaign(2, 3, setting, "encode").finish()
damage.campaign(3, 3, setting, "encode, shards").finish()
full_disk.campaign(2, 3, setting, "convert").finish()
"""


def test_small_campaigns_hold(tmp_path: Path) -> None:
    """Killed commands go on, damaged files are noticed, full disks cost nothing written."""
    paths = os.pathsep.join(filter(None, [str(ROOT), str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    counts = [(line["campaign"], line["tried"], line["failed"]) for line in lines]
    expected = [("kills", 2, 0), ("damage", 3, 0), ("full disk", 2, 0)]
    assert counts == expected, done.stdout + done.stderr


def test_a_failed_try_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign that cannot fail would prove nothing."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from outcomes import Outcomes  # type: ignore[import-not-found]

    outcomes = Outcomes("kills", 0)
    outcomes.add("train", tries=3)
    outcomes.add("train", "another result", tries=2)
    line = outcomes.line()
    assert (line["tried"], line["held"], line["failed"]) == (5, 4, 1)
    assert outcomes.finish() == 1


@pytest.mark.parametrize("change", ["weight", "line", "file"])
def test_a_changed_folder_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    """Seconds may differ; a weight, a line or a file may not."""
    import torch
    from safetensors.torch import save_file

    monkeypatch.syspath_prepend(str(SCRIPTS))
    from content import difference, run_content  # type: ignore[import-not-found]

    def write(weight: float, lines: str) -> Any:
        save_file({"w": torch.tensor([weight])}, tmp_path / "best.safetensors", {"a": "1"})
        (tmp_path / "metrics.jsonl").write_text(lines)
        return run_content(tmp_path)

    before = write(1.0, '{"loss": 1, "seconds": 2}\n')
    assert difference(before, write(1.0, '{"loss": 1, "seconds": 3}\n')) == ""
    if change == "file":
        (tmp_path / "more.txt").touch()
    weight = 1.5 if change == "weight" else 1.0
    after = write(weight, '{"loss": 2}\n' if change == "line" else '{"loss": 1}\n')
    assert difference(before, after) != ""
