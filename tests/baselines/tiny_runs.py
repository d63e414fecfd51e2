"""Plans of the BLIP-2 and BLIP methods at a small size on drawn garments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cir_plugins import hookimpl
from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.plugins.registry import Registry


class Mine:
    """The components under test, offered as a plugin offers them."""

    @hookimpl
    def cir_backbones(self) -> Mapping[str, str]:
        """BLIP."""
        return {"tiny_blip": "baselines_plugin.backbones.blip:TinyBlip"}

    @hookimpl
    def cir_samplers(self) -> Mapping[str, str]:
        """The sampler."""
        return {"two_drops": "baselines_plugin.parts.samplers:TwoDrops"}

    @hookimpl
    def cir_losses(self) -> Mapping[str, str]:
        """The loss."""
        return {"hn_nce": "baselines_plugin.parts.losses:HardNegativeNCE"}

    @hookimpl
    def cir_methods(self) -> Mapping[str, str]:
        """The methods."""
        return {
            "sprc": "baselines_plugin.methods.sprc:SPRC",
            "qure": "baselines_plugin.methods.qure:QuRe",
            "covr2": "baselines_plugin.methods.covr:CoVR2",
            "covr": "baselines_plugin.methods.covr:CoVR",
        }


def plan_of(root: Path, name: str, /, **config: dict[str, Any]) -> Plan:
    """A plan of two short epochs, updated with config tables."""
    registry = Registry.load({"mine": Mine()})
    assert not registry.failures
    merged: dict[str, dict[str, Any]] = {
        "method": {"name": name},
        "backbone": {"name": "tiny_blip2", "start": "random"},
        "data": {"name": "fashioniq", "root": str(root)},
        "train": {
            "epochs": 2,
            "batch_size": 16,
            "lr": 1e-3,
            "validate_every": 0,
            "augment": "none",
        },
        "run": {"device": "cpu", "workers": 0},
    }
    for kind, table in config.items():
        merged[kind] = {**merged.get(kind, {}), **table}
    return make_plan(registry, merged)
