"""Runs that start from the chosen weights of another run, converted ones included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cir_plugins.config.plan import Plan
from cir_plugins.config.toml import Config, read_config
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.plugins.options import check_options, options_of
from cir_plugins.runs.build import build
from cir_plugins.runs.folder import CONFIG, check_record, read_run_config
from cir_plugins.runs.weights import load_best, load_frozen
from cir_plugins.training.checkpoint import load_trained_state
from cir_plugins.training.trainer import BEST, LATEST


def warm_start_layer(layers: Iterable[Config]) -> tuple[Config, ...]:
    """Tables ``[method]`` and ``[backbone]`` of the run in ``run.warm_start``.

    As the lowest layer they give the new run the same shape (sizes, vocabulary) without naming it
    again. () where there is no such option or no such run: ``check_warm_start`` raises the error
    where the run is needed.
    """
    folders = [
        layer["run"]["warm_start"] for layer in layers if "warm_start" in layer.get("run", {})
    ]
    if not folders or not folders[-1] or not (Path(str(folders[-1])) / CONFIG).is_file():
        return ()
    config = read_config(Path(folders[-1]) / CONFIG)
    return ({name: config[name] for name in ("method", "backbone") if name in config},)


def check_warm_start(plan: Plan, folder: Path, *, resume: bool) -> None:
    """Check that the plan's run can start from the one it names; nothing where it is resumed.

    Raises:
        CIRError: If that is no run with weights, or one of another method or backbone.
    """
    if not plan.run.warm_start or (resume and (folder / LATEST).is_file()):
        return
    source = Path(plan.run.warm_start)
    check_record(source)
    config = read_run_config(source)
    wrong = [
        f"{component.kind} '{config.get(component.kind, {}).get('name')}', not '{component.name}'"
        for component in (plan.method, plan.backbone)
        if config.get(component.kind, {}).get("name") != component.name
    ]
    if wrong:
        raise CIRError(f"run {source} cannot be started from: it has {' and '.join(wrong)}")
    if not (source / BEST).is_file():
        raise CIRError(f"run {source} cannot be started from: it has no {BEST}")


def load_warm_start(method: Method, plan: Plan, folder: Path, *, resume: bool) -> dict[str, Tensor]:
    """The frozen weights to keep, once all weights of the run that the plan names are in a method.

    A run that is resumed from its checkpoint has the frozen ones already.

    Raises:
        CIRError: If the weights do not fit, with what does not.
    """
    if not plan.run.warm_start:
        return {}
    if resume and (folder / LATEST).is_file():
        return load_frozen(method, folder)
    source = build(warm_start_plan(plan), Encoding(torch.device("cpu")))
    load_best(source, Path(plan.run.warm_start))
    return take_weights(method, source.state_dict(), plan.run.warm_start)


def warm_start_plan(plan: Plan) -> Plan:
    """The plan with method, backbone and seed as the run that it starts from has them.

    Raises:
        CIRError: If that run's configuration cannot be read or is of another version.
    """
    config = read_run_config(Path(plan.run.warm_start or ""))
    components = []
    for component in (plan.method, plan.backbone):
        options = options_of(component.factory)
        values = {key: value for key, value in config[component.kind].items() if key != "name"}
        checked = check_options(f"{component.kind} '{component.name}'", options, values)
        whole = {key: checked.get(key, option.default) for key, option in options.items()}
        components.append(replace(component, options=whole))
    seed = config.get("run", {}).get("seed", plan.run.seed)
    run = plan.run.model_copy(update={"seed": seed, "warm_start": None})
    return replace(plan, method=components[0], backbone=components[1], run=run)


def take_weights(method: Method, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The frozen weights that differ from the method's own, once the whole state is in it.

    Args:
        method: Where the weights go.
        state: All weights of the other run's method.
        source: The other run, for messages.

    Raises:
        CIRError: If the state does not fit, with what does not.
    """
    before = {
        name: value.detach().cpu().clone()
        for name, value in method.named_parameters()
        if not value.requires_grad
    }
    load_trained_state(method, state, f"run.warm_start: run {source}")
    return {
        name: state[name]
        for name, value in before.items()
        if name in state and not torch.equal(value, state[name])
    }
