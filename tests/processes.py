"""What the tests of several processes run in each of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.step import Step
from cir_plugins.world import World, join
from tests.fakes import make_trainer, parts

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
    spawn(_joined, (size, port, function, arguments), nprocs=size)  # type: ignore[no-untyped-call]


def _joined(
    rank: int, size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with join(rank, size, torch.device("cpu")) as world:
        function(world, *arguments)


def train_all(world: World, folder: Path) -> None:
    """Every run, its outcome in a file of the process."""
    found = {case: run_case(case, folder / f"{case}-two", folder / "data", world) for case in RUNS}
    found["errors"] = {case: error_of(case, folder, world) for case in FAULTS}
    found["exchanges"] = exchanges(world)
    torch.save(found, folder / f"rank{world.rank}.pt")


class Pair(NamedTuple):
    """Two tensors of one leading dimension."""

    left: Tensor
    right: Tensor


def exchanges(world: World) -> dict[str, Any]:
    """What every process gets from what each of them has."""
    rows = Pair(
        torch.full((1 + 2 * world.rank, 3), 0.5 + world.rank, dtype=torch.bfloat16),
        torch.full((1 + 2 * world.rank, 2, 2), world.rank == 1),
    )
    last = Pair(torch.ones(2, 1), torch.ones(2)) if world.rank else None
    weights = [nn.Parameter(torch.zeros(n, dtype=d)) for n, d in WEIGHTS]
    for place, weight in enumerate(weights):
        if place != 2 and (place != 1 or world.rank):
            weight.grad = torch.full_like(weight, 1.0 + world.rank + place)
    world.sum_gradients(weights)
    return {
        "rows": tuple(world.gather(rows, [1, 3])),
        "last": tuple(world.gather(last, [0, 2])),
        "type": type(world.gather(last, [0, 2])).__name__,
        "highest": world.highest(torch.tensor([[-1, 4 * world.rank], [3 - world.rank, -1]])),
        "told": world.told(lambda: f"from {world.rank}", source=1),
        "listed": world.listed(world.rank),
        "grads": [None if weight.grad is None else weight.grad.tolist() for weight in weights],
    }


WEIGHTS = ((2, torch.float32), (3, torch.float32), (2, torch.float32), (1, torch.float64))


def error_of(case: str, folder: Path, world: World) -> str:
    """The message that a process ends with when one of them finds a fault."""
    try:
        FAULTS[case](folder, world)
    except CIRError as error:
        return str(error)
    return ""


def _unreadable(folder: Path, world: World) -> None:
    trainer = make_trainer(folder / "unreadable", folder / "data", world=world)
    gone = tuple(path.with_name(f"gone{world.rank}.png") for path in trainer.table.paths)
    if world.rank:  # one process alone meets the fault
        trainer.table = replace(trainer.table, paths=gone)
    trainer.fit()


def _full_disk(folder: Path, world: World) -> None:
    trainer = make_trainer(folder / "disk", folder / "data", world=world)

    def refuse() -> None:
        raise CIRError(f"disk of process {world.rank} is full")

    trainer._save = refuse  # type: ignore[method-assign]
    trainer.fit()


def _whole(folder: Path, world: World) -> None:
    trainer = make_trainer(folder / "whole", folder / "data")
    whole = type("Whole", (Method,), {"terms": lambda self, batch: {}})(parts())
    Step(whole, trainer.settings, trainer.encoding, seed=0, world=world)


FAULTS = {"unreadable": _unreadable, "disk": _full_disk, "whole": _whole}
