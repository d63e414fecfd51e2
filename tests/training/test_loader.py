from __future__ import annotations

import gc
import multiprocessing
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.data.batches import BatchPlan, BatchSource, epoch_plans
from cir_plugins.data.table import TrainingTable
from cir_plugins.encoding.features import Encoding, TrainingFeatures
from cir_plugins.errors import CIRError
from cir_plugins.training.loader import Loader, ahead
from cir_plugins.types import Batch
from tests.fakes import FakeBackbone, table_of


def counted(seen: list[int], count: int, fault: int = -1) -> Iterator[int]:
    for number in range(count):
        if number == fault:
            raise CIRError(f"item {number} cannot be read")
        seen.append(number)
        yield number


@pytest.mark.parametrize("count", [1, 2, 5])
def test_items_made_ahead_come_in_order(count: int) -> None:
    for length in (0, 1, 2, 7):
        made = ahead(counted([], length), lambda number: number**2, count)
        assert list(made) == [number**2 for number in range(length)]


def test_next_items_are_made_while_one_is_used() -> None:
    done = [threading.Event() for _ in range(4)]
    threads = set()

    def make(number: int) -> int:
        threads.add(threading.current_thread().name)
        done[number].set()
        return number

    made = ahead(counted([], 4), make, 2)
    assert next(made) == 0
    assert done[1].wait(20)
    assert done[2].wait(20)
    assert not done[3].is_set()  # no more than two ahead of the loop
    assert list(made) == [1, 2, 3]
    assert threads == {name for name in threads if name != threading.current_thread().name}


def test_an_error_comes_out_in_its_place() -> None:
    made = ahead(counted([], 5, fault=2), lambda number: number, 3)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(CIRError, match="item 2 cannot be read"):
        next(made)


def test_no_thread_outlives_its_loop() -> None:
    before = threading.active_count()
    made = ahead(counted([], 50), lambda number: number, 2)
    next(made)
    made.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_cuda_batches_have_features_and_locked_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page-locking needs CUDA: a copy that is noted stands for it."""
    pinned: list[int] = []

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        pinned.append(id(copy))
        return copy

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    table = table_of(tmp_path)
    source = BatchSource(table, FakeBackbone(), seed=0, with_images=False)
    features = TrainingFeatures(torch.randn(len(table.images), 3))
    plans = epoch_plans(20, batch_size=6, drop_last=False, seed=1, epoch=0, mined=None)

    def batches(device: str) -> list[dict[str, Tensor]]:
        encoding = Encoding(torch.device(device), progress=False)
        loaded = list(Loader(source, encoding, features).epoch(plans))
        for batch in loaded:
            assert batch.images is None
            assert batch.image_index is not None
            assert batch.features is not None
            assert torch.equal(batch.features, features[batch.image_index])
        names = ("features", "reference", "candidates", "target", "excluded")
        return [{n: getattr(b, n) for n in names} | dict(b.tokens) for b in loaded]

    plain = batches("cpu")
    assert not pinned
    locked = batches("cuda")
    assert len(plain) == len(locked) == len(plans)
    for one, two in zip(plain, locked, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert {id(tensor) for tensor in two.values()} <= set(pinned)


def test_features_need_the_numbers_of_their_images(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    source = BatchSource(table, FakeBackbone(), seed=0, with_images=False)
    loader = Loader(source, Encoding(torch.device("cpu")), TrainingFeatures(torch.zeros(12, 3)))
    plans = epoch_plans(20, batch_size=6, drop_last=False, seed=1, epoch=0, mined=None)
    batch = replace(source[plans[0]], image_index=None)
    with pytest.raises(ValueError, match="a batch without image_index cannot use cached"):
        loader._ready(batch)


def same(first: Batch, second: Batch) -> bool:
    pairs: list[tuple[Any, Any]] = [(first.text, second.text)]
    tensors = [
        (getattr(first, name), getattr(second, name))
        for name in ("images", "reference", "candidates", "target", "excluded", "mined")
    ]
    tensors += [(first.triplet_index, second.triplet_index)]
    tensors += [(first.tokens["ids"], second.tokens["ids"])]
    equal = all((a is None and b is None) or torch.equal(a, b) for a, b in tensors)
    return equal and all(a == b for a, b in pairs)


def loader_of(table: TrainingTable, workers: int, **options: Any) -> Loader:
    """A loader of the table's batches, with their pictures."""
    encoding = Encoding(torch.device("cpu"), workers=workers, progress=False)
    return Loader(BatchSource(table, FakeBackbone(), seed=5, **options), encoding)


def test_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    table = table_of(tmp_path, mode="four_way", queries=17)

    def epochs(workers: int) -> list[Batch]:
        loader = loader_of(table, workers, augmentation="photo")
        batches: list[Batch] = []
        for epoch in range(2):
            mined = (torch.arange(17)[:, None] + epoch) % 12
            plans = epoch_plans(17, batch_size=4, drop_last=False, seed=1, epoch=epoch, mined=mined)
            batches += loader.epoch(plans)
        return batches

    alone, shared = epochs(0), epochs(2)
    assert len(alone) == len(shared) > 0
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_torchs_generator_alone(tmp_path: Path, workers: int) -> None:
    """Persistent workers draw a seed in their first epoch only, which would shift dropout."""
    table = table_of(tmp_path)
    loader = loader_of(table, workers)
    plans = epoch_plans(20, batch_size=10, drop_last=False, seed=1, epoch=0, mined=None)
    torch.manual_seed(4)
    expected = torch.rand(3)
    for _ in range(2):
        torch.manual_seed(4)
        list(loader.epoch(plans))
        assert torch.equal(torch.rand(3), expected)


def test_workers_end_with_their_loader(tmp_path: Path) -> None:
    """In a reference cycle they outlive it, and then take five seconds each to end."""
    table = table_of(tmp_path)
    plans = epoch_plans(20, batch_size=10, drop_last=False, seed=1, epoch=0, mined=None)
    loader = loader_of(table, 2)
    there = set(multiprocessing.active_children())
    gc.disable()
    try:
        list(loader.epoch(plans))
        mine = set(multiprocessing.active_children()) - there
        assert len(mine) == 2
        del loader
        assert not mine & set(multiprocessing.active_children())
    finally:
        gc.enable()


def failure(loader: Loader, plans: list[BatchPlan]) -> str:
    """Its message; pytest.raises would keep the loader, and with it the workers, in a cycle."""
    try:
        list(loader.epoch(plans))
    except CIRError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    """A worker's traceback must not become part of the message."""
    table = table_of(tmp_path)
    for path in table.paths:
        path.write_bytes(b"")
    loader = loader_of(table, workers)
    plans = epoch_plans(20, batch_size=10, drop_last=False, seed=1, epoch=0, mined=None)
    assert re.fullmatch(r"image .*\.png is empty \(0 bytes\)", failure(loader, plans))
