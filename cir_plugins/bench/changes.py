"""Changes of a suite on the command line, for all of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cir_plugins.bench.suite import Suite
from cir_plugins.config.toml import Config, merge
from cir_plugins.errors import CIRError

# Options that the command line has flags for, or in which the entries of a suite differ.
_FLAGS = {
    "data.name": "--data",
    "data.root": "--root",
    "method.name": "--methods",
    "run.seed": "--seeds",
}


def changed_suite(suite: Suite, changes: Config, *, trains: bool = True) -> Suite:
    """The suite with the options in the configs of all its entries, and in its data options.

    Args:
        suite: The suite.
        changes: Config of ``--set``.
        trains: Whether the suite trains; False where trained runs are evaluated.

    Raises:
        CIRError: If an option has its own flag, is one of a method, or has no effect.
    """
    for name in changed_options(changes):
        if name in _FLAGS:
            raise CIRError(f"--set {name}=... cannot change a suite; accepted: {_FLAGS[name]}")
        if not trains and not name.startswith("data."):
            raise CIRError(
                f"--set {name}=... has no effect with --runs, whose runs are evaluated as they "
                "were trained; accepted: data.OPTION=value"
            )
    if "method" in changes:
        option = next(iter(changes["method"]))
        raise CIRError(
            f"--set method.{option}=... cannot change a suite, whose entries have different "
            "methods; accepted: a suite file with its own entries (--help)"
        )
    shared = {name: table for name, table in changes.items() if name != "data"}
    entries = tuple(replace(entry, config=merge(entry.config, shared)) for entry in suite.entries)
    data = {**suite.data, **changes.get("data", {})}
    return replace(suite, entries=entries, data=data)


def changed_options(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The changes as one mapping, such as ``{"train.epochs": 1}``."""
    return {
        f"{table}.{option}": value
        for table, options in changes.items()
        for option, value in options.items()
    }
