"""Official checkpoints to runs: read without executing anything, every key accounted for."""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.training.checkpoint import save_state

Official: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Method], dict[str, Tensor]]
"""Official checkpoints as they were loaded -> this project's state of the method."""

# What torch's restricted unpickler raises on files that are cut off, altered or something else.
_DAMAGE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error),
)


def load_untrusted(path: Path) -> Mapping[str, Any]:
    """The content of an official checkpoint, tensors and plain values only.

    Unpickling is restricted to tensors, plain containers and ``argparse.Namespace`` (which TIRG's
    and ComposeAE's files hold): anything else in the file is refused and nothing in it is run.

    Raises:
        CIRError: If the file is missing, damaged, no table, or holds anything that could run code.
    """
    import torch

    if not path.is_file():
        raise CIRError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        # A damaged file may look as if it were of another pickle protocol, which torch warns of.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise CIRError(
                f"checkpoint {path} is refused: it names {named[1]}, which could run code; nothing "
                "in it was run. Accepted: tensors, plain values and argparse.Namespace"
            ) from error
        reason = _reason(error)
        raise CIRError(
            f"checkpoint {path} is damaged or no checkpoint ({reason}); accepted: files that "
            "torch.save wrote, or safetensors"
        ) from error
    if not isinstance(content, Mapping):
        raise CIRError(f"checkpoint {path} holds a {type(content).__name__}, not a state")
    return content


def _reason(error: Exception) -> str:
    text = re.split(r"WeightsUnpickler error:", str(error))[-1].strip()
    first = text.splitlines()[0][:100] if text else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _load_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(str(path))
        return state
    except (SafetensorError, OSError) as error:
        raise CIRError(f"checkpoint {path} is damaged: {error}") from error


def entry(checkpoints: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Tensor] | None:
    """The state dict under ``name`` in the first checkpoint that has it, or None."""
    for checkpoint in checkpoints:
        if isinstance(checkpoint.get(name), Mapping):
            found: Mapping[str, Tensor] = checkpoint[name]
            return found
    return None


def need_entry(
    checkpoints: Sequence[Mapping[str, Any]], name: str, what: str
) -> Mapping[str, Tensor]:
    """The state dict under ``name`` in the first checkpoint that has it.

    Args:
        checkpoints: As they were loaded.
        name: Key of the entry.
        what: What the entry is and where it comes from, for the message.

    Raises:
        CIRError: If none has it; lists what they hold.
    """
    found = entry(checkpoints, name)
    if found is None:
        held = "; ".join(_some(checkpoint, 10) or "nothing" for checkpoint in checkpoints)
        raise CIRError(f"no entry '{name}' ({what}) in the checkpoints; they hold: {held}")
    return found


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with a prefix before every key."""
    return {prefix + key: value for key, value in state.items()}


class Ledger:
    """A state dict from which keys are taken one by one until none is left.

    Args:
        state: Official key -> tensor.
        where: What the state is, for messages, such as ``entry 'Combiner'``.
    """

    def __init__(self, state: Mapping[str, Tensor], where: str) -> None:
        wrong = [key for key, value in state.items() if not isinstance(value, Tensor)]
        if wrong:
            raise CIRError(f"{where} holds values that are no tensors: {', '.join(wrong[:5])}")
        self._left = dict(state)
        self._missing: list[str] = []
        self._where = where

    def take(self, key: str) -> Tensor | None:
        """The tensor of a key, which counts as used; None where it is missing (told by finish)."""
        if key not in self._left:
            self._missing.append(key)
            return None
        return self._left.pop(key)

    def rename(self, pattern: str, replacement: str) -> dict[str, Tensor]:
        """All tensors whose key matches the whole pattern, under their new names."""
        rule = re.compile(pattern)
        found = {key: rule.fullmatch(key) for key in self._left}
        return {
            match.expand(replacement): self._left.pop(key) for key, match in found.items() if match
        }

    def drop(self, *patterns: str) -> None:
        """Count keys that match a whole pattern as used: they have no place here."""
        for pattern in patterns:
            self.rename(pattern, "")

    def finish(self) -> None:
        """Check that every key was used.

        Raises:
            CIRError: With the unexpected and the missing keys.
        """
        told = []
        if self._left:
            told.append(f"unexpected: {_some(self._left)}")
        if self._missing:
            told.append(f"missing: {_some(self._missing)}")
        if told:
            raise CIRError(f"{self._where} does not fit; {'; '.join(told)}")


def converted_state(
    checkpoints: Sequence[Mapping[str, Any]], method: Method, official: Official
) -> dict[str, Tensor]:
    """The method's state from official checkpoints, complete, of its shapes and kinds of number.

    Raises:
        CIRError: If anything is missing, left over, or of another shape; lists it.
    """
    state = official(checkpoints, method)
    wanted = method.state_dict()
    problems = []
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("shapes", shapes)):
        if keys:
            problems.append(f"{title}: {_some(keys)}")
    if problems:
        raise CIRError(f"the checkpoint does not fit the method; {'; '.join(problems)}")
    return {key: state[key].to(value.dtype) for key, value in wanted.items()}


def write_converted(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a converted state as the chosen weights of a run."""
    save_state(path, {"epoch": -1, "method": dict(state)})


def _some(keys: Sequence[str] | Mapping[str, Any], most: int = 20) -> str:
    names = [str(key) for key in keys]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
