"""Hook of the plugin: the generators of drawn garments."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_generators() -> Mapping[str, str]:
    """The generators of drawn garments."""
    return {
        "garments": "garments_plugin.generator:Garments",
        "look_alikes": "garments_plugin.generator:LookAlikes",
    }
