"""The host's built-in components, registered through the same hooks as outside plugins."""

from __future__ import annotations

from cir_plugins.plugins.hookspecs import Factories, hookimpl


@hookimpl
def cir_backbones() -> Factories:
    """CLIP and BLIP-2, at full size and small."""
    return {
        "clip": "cir_plugins.builtin.clip:Clip",
        "tiny_clip": "cir_plugins.builtin.clip:TinyClip",
        "blip2": "cir_plugins.builtin.blip2:Blip2",
        "tiny_blip2": "cir_plugins.builtin.blip2:TinyBlip2",
    }


@hookimpl
def cir_samplers() -> Factories:
    """Samplers of the literature, by simple rules on scores."""
    return {
        "in_batch": "cir_plugins.builtin.samplers:InBatch",
        "random": "cir_plugins.builtin.samplers:Random",
        "hardest": "cir_plugins.builtin.samplers:Hardest",
        "semi_hard": "cir_plugins.builtin.samplers:SemiHard",
        "after_target": "cir_plugins.builtin.samplers:AfterTarget",
        "percent_of_positive": "cir_plugins.builtin.samplers:PercentOfPositive",
        "soft_zone": "cir_plugins.builtin.samplers:SoftZone",
    }


@hookimpl
def cir_losses() -> Factories:
    """Losses of the literature: InfoNCE, pairwise, margin."""
    return {
        "info_nce": "cir_plugins.builtin.losses:InfoNCE",
        "pairwise": "cir_plugins.builtin.losses:Pairwise",
        "margin": "cir_plugins.builtin.losses:Margin",
    }


@hookimpl
def cir_methods() -> Factories:
    """Contrastive learning, and training-free methods as reference points."""
    return {
        "contrastive": "cir_plugins.method:Method",
        "image_only": "cir_plugins.builtin.methods:ImageOnly",
        "text_only": "cir_plugins.builtin.methods:TextOnly",
        "image_text_sum": "cir_plugins.builtin.methods:ImageTextSum",
        "image_text_product": "cir_plugins.builtin.methods:ImageTextProduct",
    }


@hookimpl
def cir_datasets() -> Factories:
    """Readers of the field's data sets, and of triplets of one's own."""
    return {
        "fashioniq": "cir_plugins.data.readers.fashioniq:FashionIQ",
        "cirr": "cir_plugins.data.readers.cirr:CIRR",
        "circo": "cir_plugins.data.readers.circo:CIRCO",
        "shoes": "cir_plugins.data.readers.shoes:Shoes",
        "fashion200k": "cir_plugins.data.readers.fashion200k:Fashion200k",
        "genecis": "cir_plugins.data.readers.genecis:GeneCIS",
        "lasco": "cir_plugins.data.readers.lasco:LaSCo",
        "icir": "cir_plugins.data.readers.icir:ICIR",
        "triplets": "cir_plugins.data.readers.triplets:Triplets",
    }


@hookimpl
def cir_indexes() -> Factories:
    """Search backends: exact scoring of memory-mapped vectors, faiss, Milvus."""
    return {
        "exact": "cir_plugins.builtin.exact:Exact",
        "faiss": "cir_plugins.builtin.faiss_index:Faiss",
        "milvus": "cir_plugins.builtin.milvus_index:Milvus",
    }
