"""Keyword arguments as a configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.settings import RunSettings
from cir_plugins.config.toml import COMPONENT_TABLES, TABLES, Config, as_config
from cir_plugins.errors import CIRError


def settings_config(settings: Mapping[str, Any]) -> Config:
    """The config of keyword settings.

    A table's name takes a dict, a component's also a name; a setting of ``[run]`` goes there, and
    any other to ``[train]``, where unknown names are errors.
    """
    config: Config = {}
    for name, value in settings.items():
        if name in COMPONENT_TABLES or (name in TABLES and isinstance(value, Mapping)):
            table, content = name, component_config(value)
        else:
            table = "run" if name in RunSettings.__annotations__ else "train"
            content = {name: value}
        config[table] = {**config.get(table, {}), **content}
    return config


def config_of(plan: Plan) -> Config:
    """A plan's config as a file would hold it: plain values, options without a value left out."""
    content = tomllib.loads(plan.text())
    content.pop("version", None)
    return as_config(content, "the plan")


def component_config(value: Any) -> dict[str, Any]:
    """The config of one component, from its name or its name and options.

    Raises:
        CIRError: If it is neither.
    """
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping):
        raise CIRError(f"{value!r} is no component; accepted: a name, or a dict of options")
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}
