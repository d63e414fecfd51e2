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
    for run in (run[case] for run in two):
        for line, other in zip(one["lines"], run["lines"], strict=True):
            assert other["loss_terms"] == pytest.approx(line["loss_terms"], abs=1e-5)
            assert other["validation"] == pytest.approx(line["validation"])
            assert other.get("mining", {}).keys() == line.get("mining", {}).keys()
        assert run["best"] == one["best"]
        for name, value in one["weights"].items():
            assert torch.allclose(run["weights"][name], value, atol=1e-5, rtol=0), name
        assert (run["mined"] is None) == (one["mined"] is None)
        if one["mined"] is not None:
            assert torch.equal(run["mined"], one["mined"])
    same = [torch.equal(two[0][case]["weights"][k], v) for k, v in two[1][case]["weights"].items()]
    assert all(same)


def test_error_of_one_process_is_raised_in_all(two: list[dict[str, Any]]) -> None:
    for messages in (run["errors"] for run in two):
        assert "gone1.png" in messages["unreadable"]
        assert messages["disk"] == "disk of process 0 is full"
        whole = "method 'Whole' computes its terms on a whole batch, but 2 processes share it"
        assert messages["whole"].startswith(whole)
        assert "gone.png" in messages["store"]
        assert "gone.png" in messages["cached_store"]


@pytest.mark.parametrize("case", list(STORES))
def test_features_are_computed_once_by_one_process(
    case: str, folder: Path, two: list[dict[str, Any]]
) -> None:
    """Each process computed the features of all training images."""
    one = store_of(case, folder / "stores")
    stores = [run["stores"][case] for run in two]
    assert {store["kind"] for store in stores} == {one["kind"]}
    if one["features"] is None:
        assert [store["batches"] for store in stores] == [[7], [7]]  # one batch gives the size
        return
    assert all(torch.equal(store["features"], one["features"]) for store in stores)
    batches = {"memory": [[7, 7], [7, 3]], "half_full": [[1, 7], [1, 7, 3]]}  # 1 to probe the shape
    assert [store["batches"] for store in stores] == batches.get(case, [[1, 7, 7], [1, 7, 3]])


def test_collectives_give_all_processes_the_same(two: list[dict[str, Any]]) -> None:
    for results in (run["exchanges"] for run in two):
        left, right = results["rows"]
        assert left.tolist() == [[0.5] * 3] + [[1.5] * 3] * 3
        assert left.dtype == torch.bfloat16
        assert right[:, 0, 0].tolist() == [False, True, True, True]
        assert right.shape == (4, 2, 2)
        assert [tensor.tolist() for tensor in results["last"]] == [[[1.0], [1.0]], [1.0, 1.0]]
        assert results["type"] == "Pair"
        assert results["maximum"].tolist() == [[-1, 4], [3, -1]]
        assert results["broadcast"] == "from 1"
        assert results["objects"] == [0, 1]
        # 1 + 2; the second process's 2 + 1 alone; nobody's; (1 + 3) + (2 + 3)
        assert results["grads"] == [[3.0, 3.0], [3.0] * 3, None, [9.0]]


@pytest.mark.parametrize(
    ("count", "slice_size", "size", "shard_sizes"),
    [(7, 0, 2, [4, 3]), (7, 2, 2, [4, 3]), (8, 3, 2, [3, 5]), (5, 8, 3, [0, 0, 5]), (9, 2, 1, [9])],
)
def test_shards_cover_the_rows_in_order(
    count: int, slice_size: int, size: int, shard_sizes: list[int]
) -> None:
    groups = [ProcessGroup(rank, size) for rank in range(size)]
    assert [processes.shard_sizes(count, slice_size) for processes in groups] == [
        shard_sizes
    ] * size
    rows = [row for processes in groups for row in processes.shard(count, slice_size)]
    assert rows == list(range(count))
    slices = groups[0].slices(count, slice_size)
    assert [
        row for processes in groups for indices in processes.shard_of(slices) for row in indices
    ] == rows
    assert max(map(len, slices)) <= (slice_size or -(-count // size))


def test_one_process_alone_exchanges_nothing() -> None:
    processes, rows = ProcessGroup(), torch.ones(2, 3)
    weight = nn.Parameter(torch.zeros(2))
    processes.all_reduce_gradients([weight])
    assert weight.grad is None
    assert processes.all_gather(rows, [2]) is rows
    assert processes.all_reduce_max(rows) is rows
    assert processes.all_gather_object(5) == [5]
    assert list(processes.synchronise_items(iter("ab"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("device", "names", "message"),
    [
        ("mps", ("MASTER_ADDR", "MASTER_PORT"), "cannot train on mps; accepted: cpu, cuda"),
        ("cpu", ("MASTER_ADDR",), "WORLD_SIZE is 2 without MASTER_PORT; accepted: torchrun"),
    ],
)
def test_process_that_cannot_join_raises_the_reason(
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


def test_process_without_a_gpu_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "process 3 of this machine has no GPU; accepted: --nproc-per-node 2"
    with pytest.raises(CIRError, match=message), open_process_group(7, 8, torch.device("cuda")):
        pass
