"""Checkpoints: nested state in one safetensors file, written whole or not at all.

Tensors are stored as such; everything else (numbers, strings, lists, tables) as JSON in the file's
metadata. Nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

FORMAT = 1  # raised when a checkpoint or a run folder changes its layout
_TENSOR = "$tensor"
_PICKLES = (b"PK\x03\x04", b"\x80")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state of tensors and plain values.

    Raises:
        CIRError: If the file cannot be written.
        ValueError: If a value is neither a tensor nor plain.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    plain = _take_tensors(state, "", tensors)
    metadata = {"format": str(FORMAT), "state": json.dumps(plain)}
    write_atomically(path, save(tensors, metadata))


def _take_tensors(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if key in tensors:
            raise ValueError(f"state has two tensors at '{key}'")
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: key}
    if isinstance(value, Mapping):
        return {
            "$keys": [[name, type(name).__name__] for name in value],
            "$values": [
                _take_tensors(item, f"{key}/{name}" if key else str(name), tensors)
                for name, item in value.items()
            ],
        }
    if isinstance(value, (list, tuple)):
        return [_take_tensors(item, f"{key}/{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"state at '{key}' is a {type(value).__name__}, neither tensor nor plain")


def load_state(path: Path) -> Any:
    """The nested state that ``save_state`` wrote; tuples come back as lists.

    Raises:
        CIRError: If the file is missing, a pickle, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format")
            if found != str(FORMAT):
                raise CIRError(
                    f"checkpoint {path} has format {found}; this version reads format {FORMAT}"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CIRError(
            f"checkpoint {path} is damaged or not a safetensors file: {error}"
        ) from error
    return _put_tensors(json.loads(metadata["state"]), tensors)


def refuse_pickle(path: Path) -> None:
    """Refuse a file that is missing or a pickle, which could run code when loaded.

    Raises:
        CIRError: With what is accepted.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CIRError(f"checkpoint {path} cannot be read: {error}") from error
    # A safetensors file starts with the length of its header, which may look like anything.
    if start.startswith(_PICKLES) and start[8:] != b"{":
        raise CIRError(
            f"checkpoint {path} is a pickle, which could run code; accepted: safetensors files "
            "that cir-plugins wrote"
        )


def _put_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    if not isinstance(value, Mapping):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    names = (int(name) if kind == "int" else name for name, kind in value["$keys"])
    values = (_put_tensors(item, tensors) for item in value["$values"])
    return dict(zip(names, values, strict=True))


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Everything of a model that its parts do not bring: trained parameters and all buffers.

    Frozen parameters come with the backbone's own weights and are left out.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put a trained state into a model, every key accounted for.

    Raises:
        CIRError: If a key is missing or unexpected, or a shape differs; lists them.
    """
    whole = model.state_dict()
    missing = sorted(set(trained_state(model)) - set(state))
    unexpected = sorted(set(state) - set(whole))
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in whole.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unexpected or shapes:
        told = [
            f"{title}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            for title, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("shapes", shapes),
            )
            if names
        ]
        raise CIRError(f"{where} does not fit the model: {'; '.join(told)}")
    with torch.no_grad():
        model.load_state_dict(dict(state), strict=False)
