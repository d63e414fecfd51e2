"""What the tests of several processes run in each of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from cir_plugins.world import World, join
from tests.fakes import make_trainer

STILL = {"dropout": 0.0}
# Settings of runs that one process and two must agree on.
RUNS: dict[str, dict[str, Any]] = {
    "contrastive": {"backbone": STILL, "ema": 0.5},
    "mined": {"method": "dqe", "backbone": STILL, "mine_every": 1, "mine_from": 0, "mined": 2},
    "frozen": {"method": "dqe", "backbone": {**STILL, "frozen": True}, "clip": 1.0},
    "dropout": {"method": "dqe", "chunk": 2, "known": "target"},
    "one_part": {"method": "dqe", "chunk": 6, "negatives": "both"},
}


def run_case(case: str, folder: Path, data: Path, world: World | None = None) -> dict[str, Any]:
    """Lines of the log, weights and mined negatives of a run of two epochs."""
    trainer = make_trainer(folder, data, epochs=2, world=world, **RUNS[case])
    progress = trainer.fit()
    mined = progress.mined
    return {
        "lines": progress.lines,
        "best": progress.best,
        "weights": {name: value.detach() for name, value in trainer.method.state_dict().items()},
        "mined": None if mined is None else mined.images,
    }


def start(function: Callable[..., None], size: int, *arguments: Any) -> None:
    """Run ``function(world, *arguments)`` in so many processes on the CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_joined, (size, port, function, arguments), nprocs=size)


def _joined(
    rank: int, size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with join(rank, size, torch.device("cpu")) as world:
        function(world, *arguments)


def train_all(world: World, folder: Path) -> None:
    """Every run, its outcome in a file of the process."""
    found = {
        case: run_case(case, folder / f"{case}-two", folder / "data", world) for case in RUNS
    }
    torch.save(found, folder / f"rank{world.rank}.pt")
