"""What this plugin offers: ten published baselines and their parts."""

from __future__ import annotations

from collections.abc import Mapping

from cir_plugins import hookimpl


@hookimpl
def cir_backbones() -> Mapping[str, str]:
    """BLIP, and ResNets with a chosen text encoder, at full size and small."""
    return {
        "blip": "baselines_plugin.blip:Blip",
        "tiny_blip": "baselines_plugin.blip:TinyBlip",
        "resnet": "baselines_plugin.resnet:ResNet",
        "tiny_resnet": "baselines_plugin.resnet:TinyResNet",
    }


@hookimpl
def cir_samplers() -> Mapping[str, str]:
    """QuRe's window between two drops."""
    return {"two_drops": "baselines_plugin.samplers:TwoDrops"}


@hookimpl
def cir_losses() -> Mapping[str, str]:
    """CoVR's hard-negative loss and VAL's two-way hinge."""
    return {
        "hn_nce": "baselines_plugin.losses:HardNegativeNCE",
        "two_way_hinge": "baselines_plugin.losses_metric:TwoWayHinge",
    }


@hookimpl
def cir_methods() -> Mapping[str, str]:
    """The published methods."""
    return {
        "tirg": "baselines_plugin.tirg:TIRG",
        "val": "baselines_plugin.val:VAL",
        "composeae": "baselines_plugin.composeae:ComposeAE",
        "cosmo": "baselines_plugin.cosmo:CoSMo",
        "mgur": "baselines_plugin.mgur:MGUR",
        "clip4cir": "baselines_plugin.clip4cir:CLIP4Cir",
        "bi_blip4cir": "baselines_plugin.bi_blip4cir:BiBLIP4CIR",
        "covr": "baselines_plugin.covr:CoVR",
        "covr2": "baselines_plugin.covr:CoVR2",
        "sprc": "baselines_plugin.sprc:SPRC",
        "qure": "baselines_plugin.qure:QuRe",
    }
