"""Official checkpoints to runs: every key accounted for, no value that is not a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.runs.untrusted import Checkpoint
from cir_plugins.training.checkpoint import is_finite, save_state

Official: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Method], dict[str, Tensor]]
"""Official checkpoints as they were loaded -> this project's state of the method."""


def entry(checkpoints: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Tensor] | None:
    """The state dict under ``name`` in the checkpoint that has it, or None.

    Raises:
        CIRError: If two of them have it; names both.
    """
    states = [(checkpoint, _state(checkpoint, name)) for checkpoint in checkpoints]
    holders = [(checkpoint, state) for checkpoint, state in states if state is not None]
    if len(holders) > 1:
        numbers = [number for number, (_, state) in enumerate(states, 1) if state is not None]
        raise _ambiguous(name, holders[0][0], holders[1][0], numbers)
    return holders[0][1] if holders else None


def _state(checkpoint: Mapping[str, Any], name: str) -> Mapping[str, Tensor] | None:
    """The state dict under ``name``, which Lightning keeps as keys that begin so."""
    if isinstance(checkpoint.get(name), Mapping):
        state: Mapping[str, Tensor] = checkpoint[name]
        return state
    if not isinstance(checkpoint, Checkpoint) or not checkpoint.lightning:
        return None
    if checkpoint.wrapper == name:
        return checkpoint
    start = f"{name}."
    return {k.removeprefix(start): v for k, v in checkpoint.items() if k.startswith(start)} or None


def check_no_doubles(checkpoints: Sequence[Mapping[str, Any]]) -> None:
    """Check that no tensor is in two checkpoints under one name.

    Raises:
        CIRError: If one is; names both files.
    """
    holder: dict[str, int] = {}
    for number, checkpoint in enumerate(checkpoints):
        for name, value in checkpoint.items():
            if not isinstance(value, Tensor):
                continue
            first = holder.setdefault(name, number)
            if first != number:
                raise _ambiguous(name, checkpoints[first], checkpoint, [first + 1, number + 1])


def _ambiguous(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any], numbers: Sequence[int]
) -> CIRError:
    files = [
        str(each.file) if isinstance(each, Checkpoint) else f"checkpoint {number}"
        for each, number in zip((first, second), numbers, strict=False)
    ]
    return CIRError(
        f"entry '{name}' is in {files[0]} and in {files[1]}; accepted: the files of one model, "
        "each entry in one of them"
    )


def need_entry(
    checkpoints: Sequence[Mapping[str, Any]], name: str, what: str
) -> Mapping[str, Tensor]:
    """The state dict under ``name`` in the checkpoint that has it.

    Args:
        checkpoints: As they were loaded.
        name: Key of the entry.
        what: What the entry is and where it comes from, for the message.

    Raises:
        CIRError: If none or more than one has it; lists what they hold.
    """
    state = entry(checkpoints, name)
    if state is None:
        content = "; ".join(_some(checkpoint, 10) or "nothing" for checkpoint in checkpoints)
        raise CIRError(f"no entry '{name}' ({what}) in the checkpoints; they hold: {content}")
    return state


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
        """The tensor of a key, which counts as used; None where it is missing (see ``finish``)."""
        if key not in self._left:
            self._missing.append(key)
            return None
        return self._left.pop(key)

    def rename(self, pattern: str, replacement: str) -> dict[str, Tensor]:
        """All tensors whose key matches the whole pattern, under their new names."""
        rule = re.compile(pattern)
        matches = {key: rule.fullmatch(key) for key in self._left}
        return {
            match.expand(replacement): self._left.pop(key)
            for key, match in matches.items()
            if match
        }

    def drop(self, *patterns: str) -> None:
        """Count keys that match a whole pattern as used: they are not needed here."""
        for pattern in patterns:
            self.rename(pattern, "")

    def finish(self) -> None:
        """Check that every key was used.

        Raises:
            CIRError: With the unexpected and the missing keys.
        """
        problems = []
        if self._left:
            problems.append(f"unexpected: {_some(self._left)}")
        if self._missing:
            problems.append(f"missing: {_some(self._missing)}")
        if problems:
            raise CIRError(f"{self._where} does not fit; {'; '.join(problems)}")


def converted_state(
    checkpoints: Sequence[Mapping[str, Any]], method: Method, official: Official
) -> dict[str, Tensor]:
    """The method's state from official checkpoints, complete, of its shapes and kinds of number.

    Raises:
        CIRError: If anything is missing, left over, of another shape, or not finite; lists it.
    """
    state = official(checkpoints, method)
    whole = method.state_dict()
    problems = []
    missing = [key for key in whole if key not in state]
    unexpected = [key for key in state if key not in whole]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(whole[key].shape)}"
        for key in whole
        if key in state and state[key].shape != whole[key].shape
    ]
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("shapes", shapes)):
        if keys:
            problems.append(f"{title}: {_some(keys)}")
    if problems:
        raise CIRError(f"the checkpoint does not fit the method; {'; '.join(problems)}")
    damaged = [k for k in whole if not state[k].is_meta and not is_finite(state[k])]
    if damaged:
        raise CIRError(
            f"the checkpoint holds NaN or infinite numbers: {_some(damaged)}; it is of a training "
            "that diverged, or damaged. Accepted: weights that are finite numbers"
        )
    return {key: state[key].to(value.dtype) for key, value in whole.items()}


def write_converted(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a converted state as the chosen weights of a run."""
    save_state(path, {"epoch": -1, "method": dict(state)})


def _some(keys: Sequence[str] | Mapping[str, Any], most: int = 20) -> str:
    names = [str(key) for key in keys]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
