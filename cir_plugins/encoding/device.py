"""Where tensors live and in which precision they are computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.features import each
from cir_plugins.types import Batch, Tokens


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        CIRError: If the named device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    if not available.get(name, False):
        names = ", ".join(kind for kind, present in available.items() if present)
        raise CIRError(f"device '{name}' is not available here; accepted: auto, {names}")
    return torch.device(name)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of autocast; ``auto`` is bf16 where a CUDA device has it, else fp32."""
    if precision == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if supported else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast in that dtype; nothing for fp32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def resolve_workers(workers: int) -> int:
    """Loader processes; -1 is one less than the usable cores, at most 4."""
    if workers >= 0:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(0, min(4, (cores or 1) - 1))


def move_tokens(tokens: Tokens, device: torch.device) -> Tokens:
    """The token tensors on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tokens.items()}


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return _mapped(batch, lambda tensor: tensor.to(device, non_blocking=True))


def pin_batch(batch: Batch) -> Batch:
    """The batch with its tensors in page-locked memory, from which CUDA copies beside its work."""
    return _mapped(batch, Tensor.pin_memory)


def _mapped(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with a function applied to every tensor that a step needs on its device."""
    always = ("reference", "candidates", "target", "excluded")
    fields: dict[str, Any] = {name: function(getattr(batch, name)) for name in always}
    for name in ("images", "mined"):
        tensor = getattr(batch, name)
        fields[name] = None if tensor is None else function(tensor)
    features = None if batch.features is None else each(batch.features, function)
    tokens = {name: function(tensor) for name, tensor in batch.tokens.items()}
    text_variants = {
        variant: {name: function(tensor) for name, tensor in tensors.items()}
        for variant, tensors in batch.text_variants.items()
    }
    return replace(batch, features=features, tokens=tokens, text_variants=text_variants, **fields)
