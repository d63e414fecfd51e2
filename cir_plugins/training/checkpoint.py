"""Checkpoints: nested state in one safetensors file, written whole or not at all.

Tensors are stored as such; everything else (numbers, strings, lists, tables) as JSON in the file's
metadata, with checksums of it and of each tensor. Nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from cir_plugins.config.records import R, StoredRecord, read_record
from cir_plugins.encoding.checksums import Checksums, tensor_checksums
from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

FORMAT = 2  # raised when a checkpoint or a run folder changes its layout
_TENSOR = "$tensor"
_PICKLES = (b"PK\x03\x04", b"\x80")
_WEIGHTS = ("method", "average")  # members of a state that hold weights of a method
_MOST_NAMES = 5  # of weights in a message


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state of tensors and plain values.

    Raises:
        CIRError: If the weights under ``method`` or ``average`` are not finite, or the file cannot
            be written.
        ValueError: If a value is neither a tensor nor plain.
    """
    from safetensors.torch import save

    if names := _not_finite(state):
        raise CIRError(
            f"checkpoint {path} was not written: the weights are not finite (NaN or infinite): "
            f"{_shortened(names)}"
        )
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_take_tensors(state, "", tensors))
    checksums = Checksums.of(text, tensors).dump()
    metadata = {"format": str(FORMAT), "state": text, "checksums": checksums}
    write_atomically(path, save(tensors, metadata))


def _not_finite(state: Any) -> list[str]:
    """Names of a state's weights that are not finite."""
    if not isinstance(state, Mapping):
        return []
    groups = (state.get(member) for member in _WEIGHTS)
    weights = (item for group in groups if isinstance(group, Mapping) for item in group.items())
    return [
        str(name)
        for name, value in weights
        if isinstance(value, Tensor) and value.is_floating_point() and not is_finite(value)
    ]


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds numbers alone, or is a mask of zeros and minus infinity."""
    if value.float().sum().isfinite():  # of large numbers it may be infinite, of others not
        return True
    finite = value.isfinite()
    if finite.all() or not finite.any():
        return bool(finite.all())
    # An attention mask is a buffer that holds zeros and minus infinity alone.
    return bool((value[finite] == 0).all() and (value[~finite] == -torch.inf).all())


def _shortened(names: list[str]) -> str:
    more = " ..." if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


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
        CIRError: If the file is missing, a pickle, damaged, of another format, or holds weights
            that are not finite.
    """
    from safetensors import SafetensorError

    require_no_pickle(path)
    try:
        metadata, tensors = _read(path)
        state = _put_tensors(json.loads(metadata["state"]), tensors)
    except (SafetensorError, OSError) as error:
        raise CIRError(
            f"checkpoint {path} is damaged or not a safetensors file: {error}"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CIRError(f"checkpoint {path} is damaged: {error}") from error
    if names := _not_finite(state):
        raise CIRError(
            f"checkpoint {path} cannot be used: the weights are not finite (NaN or infinite): "
            f"{_shortened(names)}"
        )
    return state


class _Weights(StoredRecord):
    """What a checkpoint of chosen weights holds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    method: dict[str, Tensor]


class AmbiguousState(StoredRecord):
    """The images that are ambiguous for each triplet, in a checkpoint (``ImageLists``)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    starts: Tensor
    images: Tensor


class MinedState(StoredRecord):
    """The current mined negatives in a checkpoint."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    images: Tensor
    since: Annotated[int, Field(ge=0)]
    ambiguous: AmbiguousState | None


class TrainingState(_Weights):
    """What a checkpoint holds from which training goes on."""

    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, Tensor] | None
    epoch: Annotated[int, Field(ge=0)]
    updates: Annotated[int, Field(ge=0)]
    best: float | None
    mined: MinedState | None
    lines: str


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a method in a checkpoint.

    Raises:
        CIRError: As ``load_state``; and if it holds none.
    """
    return _as_record(_Weights, load_state(path), path).method


def load_training_state(path: Path) -> TrainingState:
    """The state from which training goes on.

    Raises:
        CIRError: As ``load_state``; and if it is none.
    """
    return _as_record(TrainingState, load_state(path), path)


def _as_record(kind: type[R], state: Any, path: Path) -> R:
    return read_record(kind, state, f"the state in checkpoint {path}")


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint, compared with their checksums.

    Raises:
        CIRError: If it is of another format.
        ValueError: If a checksum differs.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        number = metadata.get("format")
        if number != str(FORMAT):
            raise CIRError(
                f"checkpoint {path} has format {number}; this version reads format {FORMAT}"
            )
        checksums = Checksums.read(metadata.get("checksums"))
        checksums.check_text(metadata["state"])
        checksums.check_names(file.keys())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for name, checksum in tensor_checksums(tensors).items():
        checksums.check_tensor(name, checksum)
    return metadata, tensors


def require_no_pickle(path: Path) -> None:
    """Check that a file is there and no pickle, which could run code when loaded.

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
    """Trained parameters and all buffers of a model.

    Frozen parameters come with the backbone's own weights and are left out.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put a trained state into a model, every key accounted for.

    Raises:
        CIRError: If a key is missing or unexpected, or a shape or dtype differs; lists them.
    """
    expected = model.state_dict()
    problems = {
        "missing": sorted(set(trained_state(model)) - set(state)),
        "unexpected": sorted(set(state) - set(expected)),
        "shapes": list(_differences(expected, state, lambda tensor: tuple(tensor.shape))),
        "dtypes": list(_differences(expected, state, lambda tensor: tensor.dtype)),
    }
    if any(problems.values()):
        lines = [f"{title}: {_shortened(names)}" for title, names in problems.items() if names]
        raise CIRError(f"{where} does not fit the model: {'; '.join(lines)}")
    with torch.no_grad():
        model.load_state_dict(dict(state), strict=False)


def _differences(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], of: Callable[[Tensor], Any]
) -> Iterator[str]:
    """Names of tensors that differ in a property, with both values."""
    for name, value in expected.items():
        if name in state and of(state[name]) != of(value):
            yield f"{name} {of(state[name])} instead of {of(value)}"
