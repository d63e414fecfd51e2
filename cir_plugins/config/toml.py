"""Configurations, one mapping for each TOML table: read, changed by ``--set``, merged, written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cir_plugins.errors import CIRError, shown, unknown_name
from cir_plugins.files import parse_toml, read_toml

Config: TypeAlias = dict[str, dict[str, Any]]

COMPONENT_TABLES = ("method", "backbone", "loss", "sampler", "data")
SETTINGS_TABLES = ("train", "schedule", "mining", "memory", "run")
TABLES = (*COMPONENT_TABLES, *SETTINGS_TABLES)
VERSION = 1
LOSSY = ("fp16", "bf16")  # values of run.feature_cache_dtype that round what is stored


def read_config(path: Path) -> Config:
    """The config of a TOML file.

    Raises:
        CIRError: If the file cannot be read, is not TOML, is of another version, or has a table
            that is not known.
    """
    content = read_toml(path, "config file")
    version = content.pop("version", VERSION)
    if version != VERSION:
        raise CIRError(
            f"config file {path} has version {version!r:.40}; this version of cir-plugins reads "
            f"{VERSION}"
        )
    return as_config(content, str(path))


def as_config(content: Mapping[str, Any], where: str) -> Config:
    """The config of TOML content, where ``sampler = "x"`` is short for ``[sampler] name = "x"``.

    Raises:
        CIRError: If a table is unknown or not a table; the message has its name and ``where``.
    """
    config: Config = {}
    for name, value in content.items():
        if name not in TABLES:
            raise unknown_name(f"table in {where}", name, TABLES)
        if name in COMPONENT_TABLES and isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise CIRError(f"'{name}' in {where} must be a table, not {shown(value)}")
        config[name] = dict(value)
    return config


def parse_set(assignments: Iterable[str]) -> Config:
    """Config from ``key=value`` strings such as ``sampler=random`` or ``train.epochs=3``.

    A value is read as TOML (``3``, ``0.5``, ``true``, ``[1, 2]``) and, where it is none, as text.

    Raises:
        CIRError: If an assignment has no ``=`` or names no known table.
    """
    config: Config = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        table, _, option = key.strip().partition(".")
        if not equals or not table:
            raise CIRError(
                f"--set {shown(assignment)}; accepted: key=value, such as train.epochs=3"
            )
        if not option:
            if table not in COMPONENT_TABLES:
                raise _without_option(assignment, table)
            option = "name"
        for name, options in as_config({table: {option: _value(text.strip())}}, "--set").items():
            # Together they are one layer: a name and its options may come in any order.
            config.setdefault(name, {}).update(options)
    return config


def _without_option(assignment: str, key: str) -> CIRError:
    """The error for ``--set epochs=1`` or ``--set train=1``."""
    from cir_plugins.config.settings import similar_options  # pydantic; cir --help needs it not

    accepted = f"or NAME=value with one of {', '.join(COMPONENT_TABLES)}"
    if key in SETTINGS_TABLES:
        return CIRError(
            f"--set {shown(assignment)} names no option; accepted: {key}.OPTION=value, {accepted}"
        )
    near = similar_options(key)
    meant = f"; did you mean {' or '.join(near)}?\n" if near else "; "
    return CIRError(
        f"--set {shown(assignment)} names no table{meant}accepted: TABLE.OPTION=value with a table "
        f"of {', '.join(TABLES)}, {accepted}"
    )


def parse_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Options from ``key=value`` strings that name no table, such as ``size=64``.

    Raises:
        CIRError: If an assignment has no ``=`` or names a table.
    """
    options: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip().isidentifier():
            raise CIRError(f"--set {shown(assignment)}; accepted: option=value, such as size=64")
        options[key.strip()] = _value(text.strip())
    return options


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}", f"--set ...={text:.40}")["value"]
    except CIRError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return text
        raise


def merge(lower: Mapping[str, Mapping[str, Any]], upper: Mapping[str, Mapping[str, Any]]) -> Config:
    """Both configurations in one; where both have a key, the upper one's value counts.

    Where the upper table has another component, the lower one's options, which belonged to its
    component, are left out; the folder of a data set stays.
    """
    merged: Config = {name: dict(table) for name, table in lower.items()}
    for name, table in upper.items():
        below = merged.get(name, {})
        both_named = name in COMPONENT_TABLES and "name" in below and "name" in table
        if both_named and table["name"] != below["name"]:
            below = {key: value for key, value in below.items() if key == "root"}
        merged[name] = {**below, **table}
    return merged


def layer(recipe: Mapping[str, Mapping[str, Any]], layers: Iterable[Config]) -> Config:
    """A recipe's config with layers over it, the last one uppermost.

    Where the layers come back to the component of the recipe, the recipe's options count again.
    """
    config: Config = {name: dict(table) for name, table in recipe.items()}
    for upper in layers:
        for name, table in upper.items():
            below = merge(config, {name: table})[name]
            home = recipe.get(name, {})
            if name in COMPONENT_TABLES and home.get("name") == below.get("name"):
                below = {**home, **below}
            config[name] = below
    return config


def write_config(config: Mapping[str, Mapping[str, Any]]) -> str:
    """The config as TOML text that ``read_config`` takes."""
    import tomli_w

    ordered = {"version": VERSION, **{name: config[name] for name in TABLES if name in config}}
    text: str = tomli_w.dumps(_plain(ordered))
    return text


def computed(config: Mapping[str, Mapping[str, Any]]) -> Config:
    """The config without settings that change no number: workers, and the feature cache's folder.

    Whether there is a feature cache stays where it rounds what it stores.
    """
    result: Config = {name: dict(table) for name, table in config.items()}
    result.get("memory", {}).pop("feature_cache_mb", None)
    run = result.get("run", {})
    run.pop("workers", None)
    cache = run.pop("feature_cache", "")
    if cache and run.get("feature_cache_dtype") in LOSSY:
        run["feature_cache"] = True
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        # TOML has no null: an option that is None by default is left out.
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
