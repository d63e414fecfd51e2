"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_generators() -> Mapping[str, str]:
    """Drawn garments."""
    return {"garments": "garments_plugin.generator:Garments"}
