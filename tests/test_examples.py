"""Every example runs, for a moment: no other test would notice a broken one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.places import ROOT

SAMPLER = ROOT / "examples" / "sampler"
# Example -> its library, and the extra that installs it.
NEEDS = {
    "plain_torch": ("torch", "none"),
    "metric_learning": ("pytorch_metric_learning", "metric-learning"),
    "sentence_transformers_text": ("sentence_transformers", "sentence-transformers"),
    "open_clip_garments": ("open_clip_train", "none"),
}
ROW = re.compile(r"^  \S.* [01]\.\d{3}(  .*)?$", re.MULTILINE)


def test_every_example_is_run() -> None:
    assert {file.stem for file in SAMPLER.glob("*.py")} == {*NEEDS, "measured"}


@pytest.mark.parametrize("name", NEEDS)
def test_the_example_prints_its_table(name: str) -> None:
    module, extra = NEEDS[name]
    if find_spec(module) is None:
        pytest.skip(f"needs {module}: install the extra {extra}")
    done = subprocess.run(
        [sys.executable, str(SAMPLER / f"{name}.py"), "--quick", "--seeds", "0", "1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = ROW.findall(done.stdout)
    assert len(rows) >= 3, done.stdout
    assert rows[0] == "", "the first row has no comparison"
    assert all(row.count("±") == min(2, index) for index, row in enumerate(rows))


def test_the_bounds_of_plain_torch_are_options() -> None:
    """The table of bounds in docs/sampler.md is printed by these commands."""
    script = [sys.executable, str(SAMPLER / "plain_torch.py"), "--quick", "--seeds", "0"]
    options: tuple[list[str], ...] = (
        [],
        ["--lower", "0.05", "--upper", "0.5"],
        ["--lower", "0.1", "--upper", "0.5", "--unit", "absolute"],
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed = [
        subprocess.run(
            [*script, *bounds], capture_output=True, text=True, check=True, env=environment
        ).stdout.splitlines()
        for bounds in options
    ]
    assert len({tuple(lines[:3]) for lines in printed}) == 1
    assert len({lines[3] for lines in printed}) == 3
