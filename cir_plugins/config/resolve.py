"""A command's plan: every name and option checked, every default filled in, nothing built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from cir_plugins.config.compatibility import check_compatibility
from cir_plugins.config.plan import Plan, PlannedComponent
from cir_plugins.config.settings import (
    MemorySettings,
    MiningSettings,
    Recipe,
    RunSettings,
    ScheduleSettings,
    Settings,
    TrainSettings,
)
from cir_plugins.config.toml import Config, layer, merge
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.plugins.declarations import PROTOCOLS, check_declarations
from cir_plugins.plugins.guard import guarded, message_of
from cir_plugins.plugins.options import check_options, options_of
from cir_plugins.plugins.registry import KINDS, Kind, Registry

DATA_KEYS = ("name", "root")
# A generator makes the data, an index searches with a run; no run holds one.
_RUN_KINDS = tuple(kind for kind in KINDS if kind not in ("generator", "index"))
_TABLE_OF: Mapping[Kind, str] = MappingProxyType(
    {kind: "data" if kind == "dataset" else kind for kind in KINDS}
)
_WORD_OF = MappingProxyType({"dataset": "data set"})


def make_plan(registry: Registry, *layers: Config) -> Plan:
    """The plan of the configs in layers, the last one uppermost.

    A method's recipe fills in what they leave open; the recipe's differences for the data set come
    before it.

    Raises:
        CIRError: With all errors, one after another.
    """
    errors: list[str] = []
    data_name = _name_in(layers, "data")
    method = _name_in(layers, "method")
    recipe = _recipe_named(registry, method, errors)
    full = layer(recipe_config(recipe, method, data_name) if recipe else {}, layers)
    components = {
        kind: _planned_component(registry, kind, full, errors, bool(recipe)) for kind in _RUN_KINDS
    }
    train = _settings(TrainSettings, full, errors)
    schedule = _settings(ScheduleSettings, full, errors)
    mining = _settings(MiningSettings, full, errors)
    memory = _settings(MemorySettings, full, errors)
    run = _settings(RunSettings, full, errors)
    root = full.get("data", {}).get("root", "")
    if not isinstance(root, str) or not root:
        wrong = f"data.root cannot be {root!r}" if root else "no data folder is named"
        errors.append(f"{wrong}; accepted: --root DIR, or root in table [data]")
    if errors:
        raise CIRError("\n".join(errors))
    plan = Plan(
        method=_sure(components["method"]),
        backbone=_sure(components["backbone"]),
        loss=_sure(components["loss"]),
        sampler=_sure(components["sampler"]),
        data=_sure(components["dataset"]),
        root=Path(root),
        train=_sure(train),
        schedule=_sure(schedule),
        mining=_sure(mining),
        memory=_sure(memory),
        run=_sure(run),
    )
    check_compatibility(plan)
    return plan


S = TypeVar("S", bound=Settings)


def _settings(kind: type[S], config: Config, errors: list[str]) -> S | None:
    """The settings of a table, or None with what is wrong added to the errors."""
    try:
        return kind(**config.get(kind.table, {}))
    except CIRError as error:
        errors.append(str(error))
        return None


V = TypeVar("V")


def _sure(value: V | None) -> V:
    if value is None:
        raise ValueError("a component is missing although there was no error")
    return value


def _name_in(layers: Sequence[Config], table: str) -> str:
    """The name of a component in the uppermost layer that has one; "" for none."""
    names = [config[table]["name"] for config in layers if "name" in config.get(table, {})]
    return names[-1] if names and isinstance(names[-1], str) else ""


def _recipe_named(registry: Registry, method: str, errors: list[str]) -> Recipe | None:
    """The method's recipe, or None with an error added; a missing name is an error later."""
    if not method:
        return None
    try:
        return recipe_of(registry.factory("method", method))
    except CIRError as error:
        errors.append(str(error))
        return None


def _planned_component(
    registry: Registry, kind: Kind, config: Config, errors: list[str], has_recipe: bool
) -> PlannedComponent | None:
    """The component of a kind as the config has it, or None with an error added."""
    table = config.get(_TABLE_OF[kind], {})
    name = table.get("name", "")
    if not isinstance(name, str):
        errors.append(
            f"{_TABLE_OF[kind]}.name cannot be {name!r}; accepted: {_names(registry, kind)}"
        )
    elif name:
        if kind == "method" and not has_recipe:
            return None
        options = {key: value for key, value in table.items() if key not in DATA_KEYS}
        try:
            return plan_component(registry, kind, name, options)
        except CIRError as error:
            errors.append(str(error))
    elif has_recipe or kind in ("method", "dataset"):
        errors.append(f"no {_WORD_OF.get(kind, kind)} is named; accepted: {_names(registry, kind)}")
    return None


def plan_component(
    registry: Registry, kind: Kind, name: str, values: Mapping[str, Any]
) -> PlannedComponent:
    """The component of this name with these values checked and other options at their defaults.

    Raises:
        CIRError: If the name or an option is unknown, a value does not fit, or the plugin's
            factory does not declare its options as it should.
    """
    factory = registry.factory(kind, name)
    owner = registry.offer(kind, name).plugin
    faulty = f"{kind} '{name}' of plugin '{owner}' is faulty"
    with guarded(faulty):
        try:
            options = options_of(factory)
            check_declarations(kind, factory)
        except (ValueError, CIRError) as error:
            raise CIRError(f"{faulty}: {message_of(error)}") from error
    checked = check_options(f"{kind} '{name}'", options, values)
    whole = {key: checked.get(key, option.default) for key, option in options.items()}
    return PlannedComponent(kind, name, factory, whole, owner)


def plan_reader(
    registry: Registry, name: str, values: Mapping[str, Any], protocol: str = ""
) -> PlannedComponent:
    """The reader of a data set with a protocol's switches, and these values over them.

    Raises:
        CIRError: As ``plan_component``; and if the reader has no such protocol.
    """
    presets = PROTOCOLS.of(registry.factory("dataset", name))
    if protocol and protocol not in presets:
        raise unknown_name("protocol", protocol, presets, hint=f"see cir show dataset {name}")
    preset = presets[protocol] if protocol else {}
    return plan_component(registry, "dataset", name, {**preset, **values})


def recipe_of(method: Callable[..., Any]) -> Recipe:
    """The recipe of a method class.

    Raises:
        CIRError: If it has none.
    """
    recipe = getattr(method, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise CIRError(f"method {method!r} has no Recipe in its attribute 'recipe'")
    return recipe


def recipe_config(recipe: Recipe, method: str, data: str) -> Config:
    """A method's recipe as a config, with its differences for a data set."""
    config: Config = {
        "method": {"name": method, **recipe.options},
        "backbone": {"name": recipe.backbone.name, **recipe.backbone.options},
        "loss": {"name": recipe.loss.name, **recipe.loss.options},
        "sampler": {"name": recipe.sampler.name, **recipe.sampler.options},
        "data": {"name": data},
        **{table: settings.model_dump() for table, settings in recipe.settings().items()},
    }
    differences: Config = {}
    for key, value in recipe.datasets.get(data, {}).items():
        table, _, option = key.partition(".")
        differences.setdefault(table, {})[option or "name"] = value
    return merge(config, differences)


def _names(registry: Registry, kind: Kind) -> str:
    return ", ".join(offer.name for offer in registry.offers(kind))
