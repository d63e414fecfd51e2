"""The chosen weights of a run folder, and the frozen ones that a warm start gave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cir_plugins.encoding.checksums import json_checksum, tensor_checksums
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.training.checkpoint import load_trained_state, load_weights, save_state
from cir_plugins.training.trainer import BEST

# Frozen weights that a run has from its warm start; its checkpoints hold trained ones.
FROZEN = "frozen.safetensors"


def load_best(method: Method, folder: Path) -> None:
    """Put the chosen weights of a run folder into a method.

    Raises:
        CIRError: If they are missing or do not fit.
    """
    path = folder / BEST
    if not path.is_file():
        raise CIRError(
            f"run {folder} has no {BEST}: its training has not got that far, or it was removed"
        )
    load_frozen(method, folder)
    load_trained_state(method, load_weights(path), f"checkpoint {path}")


def save_frozen(folder: Path, frozen: Mapping[str, Tensor]) -> None:
    """Write the frozen weights that a run has from another, if it has any.

    Raises:
        CIRError: If they cannot be written.
    """
    if frozen and not (folder / FROZEN).is_file():
        save_state(folder / FROZEN, {"method": dict(frozen)})


def load_frozen(method: Method, folder: Path) -> dict[str, Tensor]:
    """The frozen weights that a run has from another, once they are in its method.

    Raises:
        CIRError: If the method has no such weights.
    """
    path = folder / FROZEN
    state: dict[str, Tensor] = load_weights(path) if path.is_file() else {}
    whole = method.state_dict()
    wrong = [name for name in state if name not in whole or whole[name].shape != state[name].shape]
    if wrong:
        raise CIRError(f"{path} does not fit the model: {', '.join(sorted(wrong)[:5])}")
    with torch.no_grad():
        method.load_state_dict(state, strict=False)
    return state


def weights_fingerprint(method: Method) -> str:
    """Sixteen hexadecimal digits: equal for equal weights, frozen ones too."""
    state = {name: tensor.detach() for name, tensor in method.state_dict().items()}
    return json_checksum(dict(sorted(tensor_checksums(state).items())))[:16]
