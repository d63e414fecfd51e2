"""Evaluation protocols of a run: their names, and the changed config for other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan, recipe_config, recipe_of
from cir_plugins.config.toml import Config, merge
from cir_plugins.data.captions import CAPTION_SWITCHES, Captions
from cir_plugins.errors import unknown_name
from cir_plugins.plugins.declarations import EVAL_ONLY_OPTIONS, PROTOCOLS
from cir_plugins.plugins.options import check_options, options_of
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.arguments import config_of

# Which of the data is read: no protocol names these.
_WHICH_DATA = frozenset({"splits", "missing", "images", "categories"})


def protocol_switches(reader: Any) -> frozenset[str]:
    """Options of a reader that its protocols set: gallery, reference, and text that they name."""
    presets = PROTOCOLS.of(reader)
    in_presets = {key for preset in presets.values() for key in preset}
    text = set(CAPTION_SWITCHES) - in_presets
    return frozenset(options_of(reader)) - text - (_WHICH_DATA - in_presets)


def protocol_of(plan: Plan, name: str = "") -> str:
    """Name of the reader's preset that the plan's options are, or ``custom``.

    Args:
        plan: The plan.
        name: Preset that is preferred where several have the same options.
    """
    presets = PROTOCOLS.of(plan.data.factory)
    if name in presets:
        presets = {name: presets[name], **presets}
    options = options_of(plan.data.factory)
    switches = protocol_switches(plan.data.factory) - _WHICH_DATA
    for each, preset in presets.items():
        whole = {key: preset.get(key, options[key].default) for key in switches}
        if all(plan.data.options[key] == value for key, value in whole.items()):
            return each
    return "custom"


def retarget(
    registry: Registry,
    config: Config,
    data: str,
    root: Path | str,
    protocol: str,
    options: Mapping[str, Any],
) -> Config:
    """Tables that point a run at other data: the protocol's preset, and the options over it.

    On the run's own data set a protocol changes its switches; the run's other data options stay.
    On another data set the method's recipe for it counts, also for the method's options that only
    evaluation uses.

    Args:
        registry: Where the components come from.
        config: The run's config.
        data: Name of the data set.
        root: Its folder.
        protocol: Name of a preset of its reader; "" for none.
        options: Options of its reader.

    Raises:
        CIRError: If the protocol or an option is unknown.
    """
    factory = registry.factory("dataset", data)
    presets = PROTOCOLS.of(factory)
    if protocol and protocol not in presets:
        hint = f"see cir show dataset {data}"
        raise unknown_name("protocol", protocol, presets, hint=hint)
    accepted = options_of(factory)
    switches = protocol_switches(factory) if protocol else ()
    preset = {key: accepted[key].default for key in switches} | dict(presets.get(protocol, {}))
    check_options(f"dataset '{data}'", accepted, options)
    before = config.get("data", {})
    changes: Config = {"data": {**preset, **options, "name": data, "root": str(root)}}
    if before.get("name") == data:
        changes["data"] = {**before, **changes["data"]}
        return changes
    name = config["method"]["name"]
    method = registry.factory("method", name)
    in_recipe = recipe_config(recipe_of(method), name, data)["method"]
    eval_only_options = {
        key: in_recipe.get(key, option.default)
        for key, option in options_of(method).items()
        if key in EVAL_ONLY_OPTIONS.of(method)
    }
    return {**changes, "method": eval_only_options} if eval_only_options else changes


def plan_on(
    registry: Registry,
    plan: Plan,
    data: str,
    root: str | PathLike[str] | None,
    protocol: str,
    options: Mapping[str, Any],
) -> Plan:
    """A run's plan on other data, under a protocol and with options of the reader.

    Args:
        registry: Where the components come from.
        plan: The run's plan.
        data: Name of the data set.
        root: Its folder; None for the plan's.
        protocol: Name of a preset of its reader; "" for none.
        options: Options of its reader.

    Raises:
        CIRError: If the protocol or an option is unknown.
    """
    folder = plan.root if root is None else Path(root)
    config = config_of(plan)
    return make_plan(
        registry, merge(config, retarget(registry, config, data, folder, protocol, options))
    )


def changed_options(before: Plan, after: Plan) -> dict[str, tuple[Any, Any]]:
    """Options of data and method that differ between two plans: name -> (before, after).

    For another data set only the name is there: its options are not comparable.
    """
    pairs = [("method", before.method, after.method)]
    changed: dict[str, tuple[Any, Any]] = {}
    if before.data.name == after.data.name:
        pairs.append(("data", before.data, after.data))
    else:
        changed["data"] = (before.data.name, after.data.name)
    for table, one, other in pairs:
        for key, value in one.options.items():
            if other.options.get(key) != value:
                changed[f"{table}.{key}"] = (value, other.options.get(key))
    return changed


def caption_rules_of(plan: Plan) -> Captions:
    """How a text becomes a query under the plan's data options."""
    options = plan.data.options
    rules = {field.name: options[field.name] for field in fields(Captions) if field.name in options}
    if "caption_mode" in options:
        rules["mode"] = options["caption_mode"]
    return Captions(**rules)
