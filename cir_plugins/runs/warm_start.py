"""Runs that start from the chosen weights of another run, converted ones included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cir_plugins.training.checkpoint import load_state, load_trained_state, save_state
from cir_plugins.config.toml import Config, read_config
from cir_plugins.errors import CIRError
from cir_plugins.runs.folder import CONFIG, check_record
from cir_plugins.method import Method
from cir_plugins.plugins.options import check_options, options_of
from cir_plugins.config.plan import Plan
from cir_plugins.training.trainer import BEST, LATEST

# Frozen weights that a run has from the one it started from; its checkpoints hold trained ones.
KEPT = "frozen.safetensors"


def warm_start_layer(layers: Iterable[Config]) -> tuple[Config, ...]:
    """The tables ``[method]`` and ``[backbone]`` of the run that ``run.warm_start`` names.

    Laid under the given ones they make the new run of the same shape (sizes, vocabulary) without
    naming it again. () where no run is named, or where there is none: ``check_warm_start`` tells that
    when it is needed.
    """
    named = [given["run"]["warm_start"] for given in layers if "warm_start" in given.get("run", {})]
    if not named or not named[-1] or not (Path(str(named[-1])) / CONFIG).is_file():
        return ()
    tables = read_config(Path(named[-1]) / CONFIG)
    return ({name: tables[name] for name in ("method", "backbone") if name in tables},)


def check_warm_start(plan: Plan, folder: Path, *, resume: bool) -> None:
    """Check that the plan's run can start from the one it names; nothing where it goes on.

    Raises:
        CIRError: If that is no run with weights, or one of another method or backbone.
    """
    if not plan.run.warm_start or (resume and (folder / LATEST).is_file()):
        return
    start = Path(plan.run.warm_start)
    check_record(start)
    tables = read_config(start / CONFIG)
    wrong = [
        f"{part.kind} '{tables.get(part.kind, {}).get('name')}', not '{part.name}'"
        for part in (plan.method, plan.backbone)
        if tables.get(part.kind, {}).get("name") != part.name
    ]
    if wrong:
        raise CIRError(f"run {start} cannot be started from: it has {' and '.join(wrong)}")
    if not (start / BEST).is_file():
        raise CIRError(f"run {start} cannot be started from: it has no {BEST}")


def warm_start_plan(plan: Plan) -> Plan:
    """The plan with method, backbone and seed as the run that it starts from has them.

    Raises:
        CIRError: If that run's configuration cannot be read or is of another version.
    """
    tables = read_config(Path(plan.run.warm_start or "") / CONFIG)
    parts = []
    for part in (plan.method, plan.backbone):
        options = options_of(part.factory)
        given = {key: value for key, value in tables[part.kind].items() if key != "name"}
        checked = check_options(f"{part.kind} '{part.name}'", options, given)
        whole = {key: checked.get(key, option.default) for key, option in options.items()}
        parts.append(replace(part, options=whole))
    seed = tables.get("run", {}).get("seed", plan.run.seed)
    run = plan.run.model_copy(update={"seed": seed, "warm_start": None})
    return replace(plan, method=parts[0], backbone=parts[1], run=run)


def take_weights(method: Method, state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """The frozen weights that were others before, once the whole state is in the method.

    Raises:
        CIRError: If the state does not fit, with what does not.
    """
    before = {
        name: value.detach().cpu().clone()
        for name, value in method.named_parameters()
        if not value.requires_grad
    }
    load_trained_state(method, state, f"run.warm_start: run {start}")
    return {
        name: state[name]
        for name, value in before.items()
        if name in state and not torch.equal(value, state[name])
    }


def save_kept(folder: Path, kept: Mapping[str, Tensor]) -> None:
    """Write the frozen weights that a run has from another, if it has any.

    Raises:
        CIRError: If they cannot be written.
    """
    if kept and not (folder / KEPT).is_file():
        save_state(folder / KEPT, {"method": dict(kept)})


def load_kept(method: Method, folder: Path) -> dict[str, Tensor]:
    """The frozen weights that a run has from another, once they are in its method.

    Raises:
        CIRError: If the method has no such weights.
    """
    path = folder / KEPT
    state: dict[str, Tensor] = load_state(path)["method"] if path.is_file() else {}
    whole = method.state_dict()
    wrong = [name for name in state if name not in whole or whole[name].shape != state[name].shape]
    if wrong:
        raise CIRError(f"{path} does not fit the model: {', '.join(sorted(wrong)[:5])}")
    with torch.no_grad():
        method.load_state_dict(state, strict=False)
    return state
