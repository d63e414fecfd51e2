"""Functions that the tests of several processes run in each of them."""

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

from cir_plugins.distributed.process_group import ProcessGroup, open_process_group
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import training_features
from cir_plugins.errors import CIRError, SharedError
from cir_plugins.method import Method
from cir_plugins.training.step import Step
from tests.fakes import CPU, FakeBackbone, components, make_trainer, write_pictures

STILL = {"dropout": 0.0}
# Settings of runs that one process and two must agree on.
RUNS: dict[str, dict[str, Any]] = {
    "contrastive": {"backbone": STILL, "ema": 0.5},
    "mined": {
        "method": "dqe",
        "backbone": STILL,
        "mining": {"every": 1, "start": 0, "per_query": 2},
    },
    "frozen": {"method": "dqe", "backbone": {**STILL, "frozen": True}, "clip": 1.0},
    "dropout": {"method": "dqe", "micro_batch": 2, "known_positives": "target"},
    "one_slice": {"method": "dqe", "micro_batch": 6, "mining": {"negatives": "both"}},
    # One triplet a batch: the first of two processes has none of it.
    "disk": {
        **{"backbone": {**STILL, "frozen": True}, "batch_size": 1},
        **{"mining": {"negatives": "mined"}, "cached": True, "memory": {"feature_cache_mb": 0}},
    },
}


def run_case(
    case: str, folder: Path, data: Path, processes: ProcessGroup | None = None
) -> dict[str, Any]:
    """Lines of the log, weights and mined negatives of a run of two epochs."""
    settings = dict(RUNS[case])
    cache = FeatureCache(folder / "features") if settings.pop("cached", False) else None
    trainer = make_trainer(folder, data, epochs=2, processes=processes, cache=cache, **settings)
    progress = trainer.fit()
    mined = progress.mined
    return {
        "lines": progress.lines,
        "best": progress.best,
        "weights": {name: value.detach() for name, value in trainer.method.state_dict().items()},
        "mined": None if mined is None else mined.images,
    }


def start(function: Callable[..., None], size: int, *arguments: Any) -> None:
    """Run ``function(processes, *arguments)`` in so many processes on the CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_in_group, (size, port, function, arguments), nprocs=size)  # type: ignore[no-untyped-call]


def _in_group(
    rank: int, size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with open_process_group(rank, size, torch.device("cpu")) as processes:
        function(processes, *arguments)


def train_all(processes: ProcessGroup, folder: Path) -> None:
    """Every run, its outcome in a file of the process."""
    outcome: dict[str, Any] = {
        case: run_case(case, folder / f"{case}-two", folder / "data", processes) for case in RUNS
    }
    outcome["errors"] = {case: error_of(case, folder, processes) for case in FAULTS}
    outcome["exchanges"] = exchanges(processes)
    outcome["stores"] = {case: store_of(case, folder / "stores", processes) for case in STORES}
    torch.save(outcome, folder / f"rank{processes.rank}.pt")


class BatchDependent(FakeBackbone):
    """Features that depend on the whole batch; the sizes of the batches are recorded."""

    def __init__(self) -> None:
        super().__init__(frozen=True)
        self.batch_sizes: list[int] = []

    def features(self, images: Tensor) -> Tensor:
        """States (U, 16) that depend on the whole batch."""
        self.batch_sizes.append(len(images))
        return super().features(images) + images.mean()


# Images that a cache has before, or None for no cache; memory for features in MiB.
STORES: dict[str, tuple[int | None, int]] = {
    **{"memory": (None, 1), "too_large": (None, -1)},
    **{"cache": (0, 1), "on_disk": (0, 0), "half_full": (8, 1), "damaged": (24, 0)},
}
COUNT = 24


def stored_images(folder: Path) -> list[Path]:
    """Pictures in four batches of seven and less; two are copies of earlier ones."""
    paths = list(write_pictures(folder, [f"{n:02d}" for n in range(COUNT)]).values())
    for copy, original in ((23, 9), (22, 2)):
        paths[copy].write_bytes(paths[original].read_bytes())
    return paths


def store_of(case: str, folder: Path, processes: ProcessGroup | None = None) -> dict[str, Any]:
    """Features of the pictures in a store, and the sizes of the batches that were encoded."""
    before, limit = STORES[case]
    paths = sorted((folder / "pictures").iterdir())
    cache_folder = folder / f"{case}-{'one' if processes is None else 'two'}"
    encoding = CPU if before is None else replace(CPU, cache=FeatureCache(cache_folder))
    if before and encoding.cache is not None:
        first = processes or ProcessGroup()
        first.broadcast(
            lambda: (
                training_features(BatchDependent(), paths[:before], encoding, 1, "none") and None
            )
        )
        if case == "damaged":
            first.broadcast(lambda: _damage(cache_folder))
            encoding = replace(CPU, cache=FeatureCache(cache_folder))
    backbone = BatchDependent()
    store = training_features(backbone, paths, encoding, limit, "none", processes)
    features = None if store is None else store[torch.arange(len(paths))]
    return {"features": features, "batches": backbone.batch_sizes, "kind": type(store).__name__}


def _damage(folder: Path) -> None:
    """Flip a bit in every shard of a cache."""
    for path in folder.rglob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


class Pair(NamedTuple):
    """Two tensors of one leading dimension."""

    left: Tensor
    right: Tensor


def exchanges(processes: ProcessGroup) -> dict[str, Any]:
    """Results of every collective, by name."""
    rows = Pair(
        torch.full((1 + 2 * processes.rank, 3), 0.5 + processes.rank, dtype=torch.bfloat16),
        torch.full((1 + 2 * processes.rank, 2, 2), processes.rank == 1),
    )
    last = Pair(torch.ones(2, 1), torch.ones(2)) if processes.rank else None
    weights = [nn.Parameter(torch.zeros(n, dtype=d)) for n, d in WEIGHTS]
    for place, weight in enumerate(weights):
        if place != 2 and (place != 1 or processes.rank):
            weight.grad = torch.full_like(weight, 1.0 + processes.rank + place)
    processes.all_reduce_gradients(weights)
    return {
        "rows": tuple(processes.all_gather(rows, [1, 3])),
        "last": tuple(processes.all_gather(last, [0, 2])),
        "type": type(processes.all_gather(last, [0, 2])).__name__,
        "maximum": processes.all_reduce_max(
            torch.tensor([[-1, 4 * processes.rank], [3 - processes.rank, -1]])
        ),
        "broadcast": processes.broadcast(lambda: f"from {processes.rank}", source=1),
        "objects": processes.all_gather_object(processes.rank),
        "grads": [None if weight.grad is None else weight.grad.tolist() for weight in weights],
    }


WEIGHTS = ((2, torch.float32), (3, torch.float32), (2, torch.float32), (1, torch.float64))


def error_of(case: str, folder: Path, processes: ProcessGroup) -> str:
    """The message that a process ends with when one of them finds a fault."""
    try:
        FAULTS[case](folder, processes)
    except SharedError as error:
        return str(error)
    return ""


def _unreadable(folder: Path, processes: ProcessGroup) -> None:
    trainer = make_trainer(folder / "unreadable", folder / "data", processes=processes)
    missing = tuple(path.with_name(f"gone{processes.rank}.png") for path in trainer.table.paths)
    if processes.rank:  # the fault is in one process alone
        trainer.table = replace(trainer.table, paths=missing)
    trainer.fit()


def _full_disk(folder: Path, processes: ProcessGroup) -> None:
    trainer = make_trainer(folder / "disk", folder / "data", processes=processes)

    def fail() -> None:
        raise CIRError(f"disk of process {processes.rank} is full")

    trainer._save = fail  # type: ignore[method-assign]
    trainer.fit()


def _whole(folder: Path, processes: ProcessGroup) -> None:
    trainer = make_trainer(folder / "whole", folder / "data")
    whole = type("Whole", (Method,), {"loss_terms": lambda self, batch: {}})(components())
    with processes.synchronise_errors():
        Step(whole, trainer.settings, trainer.encoding, seed=0, processes=processes)


def _store(folder: Path, processes: ProcessGroup, cache: FeatureCache | None = None) -> None:
    paths = sorted((folder / "stores" / "pictures").iterdir())
    paths[-1] = paths[-1].with_name("gone.png")  # in the second process's shard
    encoding = replace(CPU, cache=cache)
    training_features(FakeBackbone(frozen=True), paths, encoding, 1, "none", processes)


def _cached_store(folder: Path, processes: ProcessGroup) -> None:
    _store(folder, processes, FeatureCache(folder / "stores" / "fault"))


FAULTS = {
    **{"unreadable": _unreadable, "disk": _full_disk, "whole": _whole},
    **{"store": _store, "cached_store": _cached_store},
}
