from __future__ import annotations

import pytest
import torch

from cir_plugins.encoding.device import (
    autocast,
    move_batch,
    pin_batch,
    resolve_device,
    resolve_precision,
    resolve_workers,
)
from cir_plugins.errors import CIRError
from cir_plugins.types import Batch


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"cuda": True, "mps": True}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there["mps"])
    assert resolve_device("auto").type == "cuda"
    there["cuda"] = False
    assert resolve_device("auto").type == "mps"
    there["mps"] = False
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(CIRError, match="device 'cuda' is not available here; accepted: auto, cpu"):
        resolve_device("cuda")


def test_auto_precision_is_single_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == torch.bfloat16
    assert resolve_precision("fp16", cpu) == torch.float16


def test_autocast_acts_only_below_single_precision() -> None:
    cpu = torch.device("cpu")
    ones = torch.ones(2, 2)
    with autocast(cpu, torch.bfloat16):
        assert (ones @ ones).dtype == torch.bfloat16
    with autocast(cpu, torch.float32):
        assert (ones @ ones).dtype == torch.float32


def test_workers_leave_a_core_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_workers(7) == 7
    for cores, workers in ((1, 0), (3, 2), (64, 4)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert resolve_workers(-1) == workers


def test_moved_batch_is_whole_and_a_copy() -> None:
    index = torch.arange(2)
    batch = Batch(
        images=torch.zeros(2, 3, 4, 4),
        features=None,
        reference=index,
        candidates=index,
        target=index,
        excluded=torch.zeros(2, 2, dtype=torch.bool),
        text=["a", "b"],
        tokens={"ids": index},
        text_variants={"back": {"ids": index}},
        triplet_index=index,
        changed=[("colour",), ()],
    )
    moved = move_batch(batch, torch.device("meta"))
    assert moved.images is not None
    tensors = [moved.images, moved.reference, moved.candidates, moved.target, moved.excluded]
    tensors += [moved.tokens["ids"], moved.text_variants["back"]["ids"]]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert moved.mined is None
    assert moved.text == ["a", "b"]
    assert moved.changed == [("colour",), ()]
    assert batch.reference.device.type == "cpu"
    batch.images, batch.features, batch.mined = None, torch.zeros(2, 5), batch.excluded
    moved = move_batch(batch, torch.device("meta"))
    assert moved.features is not None
    assert moved.features.device.type == "meta"
    assert moved.mined is not None
    assert moved.mined.device.type == "meta"


def test_pinning_reaches_every_tensor_that_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page-locking needs CUDA: a move to another device stands for it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    index = torch.zeros(2, dtype=torch.long)
    words = {"ids": torch.ones(2, 3)}
    mask = torch.zeros(2, 2, dtype=torch.bool)
    batch = Batch(
        *(None, torch.zeros(2, 5), index, index, index, mask, ["a", "b"], words, mask),
        text_variants={"back": words},
    )
    pinned = pin_batch(batch)
    tensors = [pinned.features, pinned.reference, pinned.candidates, pinned.target, pinned.mined]
    tensors += [pinned.excluded, pinned.tokens["ids"], pinned.text_variants["back"]["ids"]]
    assert all(tensor is not None and tensor.device.type == "meta" for tensor in tensors)
    assert pinned.images is None
