"""Parity cases: numbers that official code gave, and what compares ours with them.

A case is a folder with ``meta.json``; ``tests/parity/<meta["method"]>.py`` gives our numbers for it
through ``outputs(case)``. Sizes and settings come from the case alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cir_plugins.method import Method
from cir_plugins.runs.convert import Official, converted_state
from tests.places import SHARED_PARITY

VARIABLE = "CIR_PARITY_DIR"
_PARTS = ("weights", "inputs", "outputs")

State = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A parity case.

    Attributes:
        folder: Where it lies.
        meta: Content of ``meta.json``.
        weights: Official key -> tensor; empty for cases without weights.
        inputs: Name -> tensor; floating ones are leaves that gradients reach.
        outputs: Name -> tensor that official code gave.
        extra: Further safetensors files by stem.
    """

    folder: Path
    meta: dict[str, Any]
    weights: State = field(repr=False)
    inputs: State = field(repr=False)
    outputs: State = field(repr=False)
    extra: dict[str, State] = field(repr=False)

    def output_names(self, prefix: str) -> list[str]:
        """Names of the stored outputs that begin with ``prefix``, without it."""
        return [name.removeprefix(prefix) for name in self.outputs if name.startswith(prefix)]


def folder_of_cases() -> Path:
    """The folder that the environment variable names, or the one beside the repository."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else SHARED_PARITY


def find_cases(folder: Path) -> list[Path]:
    """Folders with a ``meta.json``, at any depth, in order."""
    return sorted(file.parent for file in folder.rglob("meta.json"))


def read_case(folder: Path) -> Case:
    """The case in a folder."""
    from safetensors.torch import load_file

    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    states = {file.stem: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
    weights, inputs, outputs = (states.pop(group, {}) for group in _PARTS)
    for value in inputs.values():
        value.requires_grad_(value.is_floating_point())
    return Case(folder, meta, weights, inputs, outputs, states)


def split_entries(state: Mapping[str, Tensor], *names: str) -> dict[str, State]:
    """A flat file's state dicts by entry: ``{"Combiner": {"x.weight": ...}}``.

    Args:
        state: Entry + "." + official key -> tensor.
        names: The entries to expect; none for whatever stands before the first dot.

    Raises:
        ValueError: If a key belongs to no entry.
    """
    entries: dict[str, State] = {name: {} for name in names}
    for key, value in state.items():
        name, _, rest = key.partition(".")
        if not rest or (names and name not in names):
            raise ValueError(f"{key} belongs to none of the entries {', '.join(names)}")
        entries.setdefault(name, {})[rest] = value
    return entries


def load_official(
    method: Method, checkpoints: Sequence[Mapping[str, Any]], official: Official
) -> None:
    """Put official checkpoints into a method the way ``cir convert`` does, strictly."""
    method.load_state_dict(converted_state(checkpoints, method, official), strict=True)


def official_gradients(
    total: Tensor,
    method: torch.nn.Module,
    weights: Mapping[str, Tensor],
    convert: Callable[[State], Mapping[str, Tensor]],
    inputs: Mapping[str, Tensor] | None = None,
) -> State:
    """``grad.<official key>`` of a loss for every official key, and ``grad.<input>`` for inputs.

    The gradient of each of our trained parameters is carried back through the conversion, so that
    keys that the conversion joins, splits or turns come out in their official form. What the loss
    does not reach has zeros.

    Args:
        total: The loss; its graph is retained.
        method: Ours, with the weights loaded; what needs no gradient gives none.
        weights: Official key -> tensor, as stored.
        convert: Weights -> our state, keys as in ``method.state_dict()``.
        inputs: Name -> tensor; those that require a gradient have one.
    """
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    trained_inputs = {name: v for name, v in (inputs or {}).items() if v.requires_grad}
    computed = torch.autograd.grad(
        total, [*trained.values(), *trained_inputs.values()], allow_unused=True, retain_graph=True
    )
    leaves = {
        key: value.detach().clone().requires_grad_(value.is_floating_point())
        for key, value in weights.items()
    }
    ours = convert(leaves)
    pairs = [
        (ours[name], gradient)
        for name, gradient in zip(trained, computed[: len(trained)], strict=True)
        if gradient is not None and name in ours and ours[name].requires_grad
    ]
    official = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    back = torch.autograd.grad(
        [value for value, _ in pairs],
        list(official.values()),
        grad_outputs=[gradient for _, gradient in pairs],
        allow_unused=True,
    )
    reached = zip(
        (official | trained_inputs).items(), (*back, *computed[len(trained) :]), strict=True
    )
    return {
        f"grad.{name}": torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in reached
    }


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of terms times their weights, those of weight 0 with gradients of 0."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def differences(case: Case, ours: Mapping[str, Tensor]) -> list[str]:
    """One line per stored output that ours misses or differs from, in ``meta.json``'s order."""
    tol = float(case.meta["tolerance"]["tol"])
    listed = [line["name"] for line in case.meta.get("outputs", [])]
    order = [*(name for name in listed if name in case.outputs), *sorted(set(case.outputs))]
    problems = []
    for name in dict.fromkeys(order):
        if name not in ours:
            problems.append(f"{name}: missing")
            continue
        difference = _difference(ours[name].detach().cpu(), case.outputs[name], tol)
        if difference:
            problems.append(f"{name}: {difference}")
    return problems


def _difference(mine: Tensor, stored: Tensor, tol: float) -> str:
    if mine.numel() != stored.numel() or (stored.numel() != 1 and mine.shape != stored.shape):
        return f"shape {tuple(mine.shape)} instead of {tuple(stored.shape)}"
    mine = mine.reshape(stored.shape)
    if not stored.is_floating_point():
        wrong = int((mine != stored).sum())
        return f"{wrong} of {stored.numel()} values differ" if wrong else ""
    error = float((mine.double() - stored.double()).abs().max())
    bound = tol * float(stored.double().abs().max())
    if error <= bound:
        return ""
    return f"off by {error:.3g}, allowed {bound:.3g} ({error / max(bound, 1e-300):.3g} times)"


def worst_error(case: Case, ours: Mapping[str, Tensor]) -> tuple[float, str]:
    """The largest max|a-b| / max|b| of the floating outputs, and whose it is."""
    worst = (0.0, "")
    for name, stored in case.outputs.items():
        if name in ours and stored.is_floating_point():
            mine = ours[name].detach().reshape(stored.shape).double()
            scale = float(stored.double().abs().max()) or 1.0
            worst = max(worst, (float((mine - stored.double()).abs().max()) / scale, name))
    return worst
