from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cir_plugins.data.batches import BatchSource, epoch_plans
from cir_plugins.encoding.features import Encoding, TrainingFeatures
from cir_plugins.errors import CIRError
from cir_plugins.training.loader import Loader, ahead
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
