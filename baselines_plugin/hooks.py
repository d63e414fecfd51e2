"""Hooks of the baselines: eleven published methods with their backbones, samplers and losses."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_backbones() -> Mapping[str, str]:
    """BLIP, and ResNets with a text encoder, at full size and small."""
    return {
        "blip": "baselines_plugin.backbones.blip:Blip",
        "tiny_blip": "baselines_plugin.backbones.blip:TinyBlip",
        "resnet": "baselines_plugin.backbones.resnet:ResNet",
        "tiny_resnet": "baselines_plugin.backbones.resnet:TinyResNet",
    }


@hookimpl
def cir_samplers() -> Mapping[str, str]:
    """QuRe's sampler: candidates between two score gaps."""
    return {"two_drops": "baselines_plugin.parts.samplers:TwoDrops"}


@hookimpl
def cir_losses() -> Mapping[str, str]:
    """CoVR's hard-negative loss and VAL's two-way hinge."""
    return {
        "hn_nce": "baselines_plugin.parts.losses:HardNegativeNCE",
        "two_way_hinge": "baselines_plugin.parts.metric_losses:TwoWayHinge",
    }


@hookimpl
def cir_methods() -> Mapping[str, str]:
    """The published methods."""
    return {
        "tirg": "baselines_plugin.methods.tirg:TIRG",
        "val": "baselines_plugin.methods.val:VAL",
        "composeae": "baselines_plugin.methods.composeae:ComposeAE",
        "cosmo": "baselines_plugin.methods.cosmo:CoSMo",
        "mgur": "baselines_plugin.methods.mgur:MGUR",
        "clip4cir": "baselines_plugin.methods.clip4cir:CLIP4Cir",
        "bi_blip4cir": "baselines_plugin.methods.bi_blip4cir:BiBLIP4CIR",
        "covr": "baselines_plugin.methods.covr:CoVR",
        "covr2": "baselines_plugin.methods.covr:CoVR2",
        "sprc": "baselines_plugin.methods.sprc:SPRC",
        "qure": "baselines_plugin.methods.qure:QuRe",
    }
