"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_methods() -> Mapping[str, str]:
    """DQE-CIR."""
    return {"dqe": "dqe_plugin.method:DQE"}


@hookimpl
def cir_samplers() -> Mapping[str, str]:
    """Target-relative negatives."""
    return {"target_relative": "dqe_plugin.sampler:TargetRelative"}
