"""Hooks of the plugin: the method in two forms, and its sampler."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_methods() -> Mapping[str, str]:
    """DQE-CIR as we would use it, and as published."""
    return {
        "dqe": "dqe_plugin.method:DQE",
        "dqe_published": "dqe_plugin.method:DQEPublished",
    }


@hookimpl
def cir_samplers() -> Mapping[str, str]:
    """The target-relative sampler."""
    return {"target_relative": "dqe_plugin.sampler:TargetRelative"}
