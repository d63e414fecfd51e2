"""The command line under torchrun, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cir_plugins.checkpoint import load_state
from cir_plugins.train import BEST

ROOT = Path(__file__).parents[1]


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "cir_plugins", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_cir_train_in_two_processes_gives_the_run_of_one(
    garments_root: Path, tmp_path: Path
) -> None:
    arguments = ["train", "contrastive", "--data", "fashioniq", "--root", str(garments_root)]
    # A key's bias has no gradient but rounding: a small eps makes a full step of it in Adam.
    arguments += ["--set", "train.eps=1e-5"]
    for setting in (
        *("backbone=tiny_clip", "backbone.tower=text", "train.epochs=2", "train.batch_size=16"),
        *("run.device=cpu", "run.workers=0", "train.lr=1e-4", "run.feature_cache_mb=64"),
    ):
        arguments += ["--set", setting]
    two, one = tmp_path / "two", tmp_path / "one"
    done = torchrun(*arguments, "--out", two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"run: {two}") == 1
    alone = subprocess.run(
        [sys.executable, "-m", "cir_plugins", *arguments, "--out", str(one)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert alone.returncode == 0, alone.stderr
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, two)
    ]
    for first, second in zip(*lines, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
        assert second["validation"] == pytest.approx(first["validation"])
    assert {file.name for file in one.iterdir()} == {file.name for file in two.iterdir()}
    weights = [load_state(run / BEST)["method"] for run in (one, two)]
    for name, value in weights[0].items():
        assert (weights[1][name] - value).abs().max() < 1e-5, name


@pytest.mark.slow
def test_an_error_is_told_once(tmp_path: Path) -> None:
    done = torchrun("train", "sprc", "--data", "cirr", "--root", tmp_path, "--out", tmp_path / "r")
    assert done.returncode != 0
    assert done.stderr.count("error: method 'sprc' computes its terms on a whole batch") == 1
    assert "2 processes share it" in done.stderr
