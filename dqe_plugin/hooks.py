"""Hooks of the plugin: the method and its sampler."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_methods() -> Mapping[str, str]:
    """The method DQE-CIR."""
    return {"dqe": "dqe_plugin.method:DQE"}


@hookimpl
def cir_samplers() -> Mapping[str, str]:
    """The target-relative sampler."""
    return {"target_relative": "dqe_plugin.sampler:TargetRelative"}
