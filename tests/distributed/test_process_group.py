from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cir_plugins.distributed.process_group import ProcessGroup, open_process_group
from cir_plugins.errors import CIRError
from tests.fakes import make_trainer
from tests.processes import (
    RUNS,
    STORES,
    run_case,
    start,
    store_of,
    stored_images,
    train_all,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """The runs of two processes, by rank."""
    # The pictures are written before two processes would write them at once.
    make_trainer(folder / "first", folder / "data")
    stored_images(folder / "stores" / "pictures")
    start(train_all, 2, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", list(RUNS))
def test_two_processes_train_as_one(case: str, folder: Path, two: list[dict[str, Any]]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = run_case(case, folder / f"{case}-one", folder / "data")
    torch.set_num_threads(threads)
    for found in (run[case] for run in two):
        for line, other in zip(one["lines"], found["lines"], strict=True):
            assert other["loss_terms"] == pytest.approx(line["loss_terms"], abs=1e-5)
            assert other["validation"] == pytest.approx(line["validation"])
            assert other.get("mining", {}).keys() == line.get("mining", {}).keys()
        assert found["best"] == one["best"]
        for name, value in one["weights"].items():
            assert torch.allclose(found["weights"][name], value, atol=1e-5, rtol=0), name
        assert (found["mined"] is None) == (one["mined"] is None)
        if one["mined"] is not None:
            assert torch.equal(found["mined"], one["mined"])
    same = [torch.equal(two[0][case]["weights"][k], v) for k, v in two[1][case]["weights"].items()]
    assert all(same)


def test_an_error_of_one_process_ends_all_with_its_message(two: list[dict[str, Any]]) -> None:
    for found in (run["errors"] for run in two):
        assert "gone1.png" in found["unreadable"]
        assert found["disk"] == "disk of process 0 is full"
        assert found["whole"].startswith("method 'Whole' computes its terms on a whole batch, but 2 processes share it")
        assert "gone.png" in found["store"]
        assert "gone.png" in found["cached_store"]


@pytest.mark.parametrize("case", list(STORES))
def test_features_of_training_images_are_computed_once_by_one_of_them(
    case: str, folder: Path, two: list[dict[str, Any]]
) -> None:
    """Each process computed all of them, as many times the work as there were processes."""
    one = store_of(case, folder / "stores")
    found = [run["stores"][case] for run in two]
    assert {run["kind"] for run in found} == {one["kind"]}
    if one["features"] is None:
        assert [run["batches"] for run in found] == [[7], [7]]  # the first chunk tells the size
        return
    assert all(torch.equal(run["features"], one["features"]) for run in found)
    batches = {"memory": [[7, 7], [7, 3]], "half_full": [[1, 7], [1, 7, 3]]}  # 1 to probe the shape
    assert [run["batches"] for run in found] == batches.get(case, [[1, 7, 7], [1, 7, 3]])


def test_exchanges_give_all_processes_the_same(two: list[dict[str, Any]]) -> None:
    for found in (run["exchanges"] for run in two):
        left, right = found["rows"]
        assert left.tolist() == [[0.5] * 3] + [[1.5] * 3] * 3
        assert left.dtype == torch.bfloat16
        assert right[:, 0, 0].tolist() == [False, True, True, True]
        assert right.shape == (4, 2, 2)
        assert [part.tolist() for part in found["last"]] == [[[1.0], [1.0]], [1.0, 1.0]]
        assert found["type"] == "Pair"
        assert found["highest"].tolist() == [[-1, 4], [3, -1]]
        assert found["told"] == "from 1"
        assert found["listed"] == [0, 1]
        # 1 + 2; the second process's 2 + 1 alone; nobody's; (1 + 3) + (2 + 3)
        assert found["grads"] == [[3.0, 3.0], [3.0] * 3, None, [9.0]]


@pytest.mark.parametrize(
    ("count", "chunk", "size", "counts"),
    [(7, 0, 2, [4, 3]), (7, 2, 2, [4, 3]), (8, 3, 2, [3, 5]), (5, 8, 3, [0, 0, 5]), (9, 2, 1, [9])],
)
def test_rows_are_shared_out_in_order(count: int, chunk: int, size: int, counts: list[int]) -> None:
    groups = [ProcessGroup(rank, size) for rank in range(size)]
    assert [processes.counts(count, chunk) for processes in groups] == [counts] * size
    rows = [row for processes in groups for row in processes.shard(count, chunk)]
    assert rows == list(range(count))
    parts = groups[0].slices(count, chunk)
    assert [
        row for processes in groups for part in processes.assigned(parts) for row in part
    ] == rows
    assert max(map(len, parts)) <= (chunk or -(-count // size))


def test_one_process_alone_exchanges_nothing() -> None:
    processes, rows = ProcessGroup(), torch.ones(2, 3)
    weight = nn.Parameter(torch.zeros(2))
    processes.all_reduce_gradients([weight])
    assert weight.grad is None
    assert processes.all_gather(rows, [2]) is rows
    assert processes.all_reduce_max(rows) is rows
    assert processes.all_gather_object(5) == [5]
    assert list(processes.synchronised(iter("ab"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("device", "names", "message"),
    [
        ("mps", ("MASTER_ADDR", "MASTER_PORT"), "cannot train on mps; accepted: cpu, cuda"),
        ("cpu", ("MASTER_ADDR",), "WORLD_SIZE is 2 without MASTER_PORT; accepted: torchrun"),
    ],
)
def test_processes_that_cannot_join_are_told(
    monkeypatch: pytest.MonkeyPatch, device: str, names: tuple[str, ...], message: str
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, "1")
    with pytest.raises(CIRError, match=message), open_process_group(0, 2, torch.device(device)):
        pass
    with open_process_group(0, 1, torch.device(device)) as processes:
        assert processes == ProcessGroup()


def test_a_process_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "process 3 of this machine has no GPU; accepted: --nproc-per-node 2"
    with pytest.raises(CIRError, match=message), open_process_group(7, 8, torch.device("cuda")):
        pass
