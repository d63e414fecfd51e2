"""The command line under torchrun, as a user starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cir_plugins.training.checkpoint import load_state
from cir_plugins.training.trainer import BEST
from tests.places import ROOT


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "cir_plugins", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_two_processes_train_the_run_of_one(garments_root: Path, tmp_path: Path) -> None:
    arguments = ["train", "contrastive", "--data", "fashioniq", "--root", str(garments_root)]
    # A key's bias has no gradient but rounding: a small eps makes a full step of it in Adam.
    arguments += ["--set", "train.eps=1e-5"]
    for setting in (
        *("backbone=tiny_clip", "backbone.tower=text", "train.epochs=2", "train.batch_size=16"),
        *("run.device=cpu", "run.workers=0", "train.lr=1e-4", "memory.feature_cache_mb=64"),
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
def test_error_of_all_is_printed_once(tmp_path: Path) -> None:
    done = torchrun("train", "mgur", "--data", "cirr", "--root", tmp_path, "--out", tmp_path / "r")
    assert done.returncode != 0
    assert done.stderr.count("error: method 'mgur' computes its terms on a whole batch") == 1
    assert "2 processes share it" in done.stderr


def alone(rank: int, code: str = "", **environment: str) -> subprocess.Popen[str]:
    """One of two processes that train as a user without torchrun would start them."""
    names = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", **environment}
    arguments = ["train", "contrastive", "--data", "cirr", "--root", "r", "--out", "never"]
    arguments += ["--set", "backbone=tiny_clip", "--device", "cuda"]
    run = f"import torch\n{code}\nfrom cir_plugins.cli import main\nmain({arguments!r})"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    return subprocess.Popen(
        [sys.executable, "-c", run],
        text=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**clean, **names},
    )


def test_first_process_prints_the_error_of_the_second() -> None:
    """Neither printed it: the second left that to the first, where there was no error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    one_gpu = (
        "torch.cuda.is_available = lambda: True\ntorch.cuda.device_count = lambda: 1\n"
        "torch.cuda.set_device = lambda gpu: None"
    )
    both = [alone(rank, one_gpu, MASTER_ADDR="127.0.0.1", MASTER_PORT=port) for rank in (0, 1)]
    stderr = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    assert stderr[0].count("error: process 1 of this machine has no GPU; accepted: --nproc") == 1
    assert "error" not in stderr[1]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({}, "error: WORLD_SIZE is 2 without MASTER_ADDR, MASTER_PORT; accepted: torchrun"),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "abc"}, "error: process 1 of 2 cannot meet"),
    ],
)
def test_process_without_rendezvous_prints_why(address: dict[str, str], message: str) -> None:
    process = alone(1, **address)
    stderr = process.communicate()[1]
    assert process.returncode == 2
    assert message in stderr
    assert "Traceback" not in stderr
