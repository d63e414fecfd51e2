"""The methods and backbones under test as a plugin, and plans of short runs on drawn garments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cir_plugins import Plan, Registry, hookimpl
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config

METHODS = {
    "clip4cir": "baselines_plugin.methods.clip4cir:CLIP4Cir",
    "bi_blip4cir": "baselines_plugin.methods.bi_blip4cir:BiBLIP4CIR",
}
BACKBONES = {
    "blip": "baselines_plugin.backbones.blip:Blip",
    "tiny_blip": "baselines_plugin.backbones.blip:TinyBlip",
}


@hookimpl
def cir_methods() -> dict[str, str]:
    return METHODS


@hookimpl
def cir_backbones() -> dict[str, str]:
    return BACKBONES


def registry() -> Registry:
    plugin = SimpleNamespace(cir_methods=cir_methods, cir_backbones=cir_backbones)
    return Registry.load({"offered": plugin})


def plan_of(name: str, root: Path, dataset: str = "fashioniq", **config: dict[str, Any]) -> Plan:
    base: Config = {
        "method": {"name": name},
        "data": {"name": dataset, "root": str(root)},
        "run": {"device": "cpu", "workers": 0},
    }
    return make_plan(registry(), base, config)
