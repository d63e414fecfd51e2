"""BLIP-2 at the size of a parity case."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from cir_plugins.builtin.blip2 import Blip2
from cir_plugins.builtin.towers import LN_VISION_EPS


def build_blip2(meta: dict[str, Any]) -> Blip2:
    """The backbone of a case in evaluation mode, at random, without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(configuration(meta)), encoding="utf-8")
        backbone = Blip2(model=folder, weights="random", dropout=0.0)
    backbone.model.vision_model.post_layernorm.eps = meta.get("ln_vision_eps", LN_VISION_EPS)
    return backbone


def configuration(meta: dict[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a case."""
    vision, qformer = meta["vision"], meta["qformer"]
    clip = "CLIP" in vision["kind"]
    return {
        "model_type": "blip-2",
        "num_query_tokens": qformer["num_query_tokens"],
        "image_text_hidden_size": meta["embed_dim"],
        "vision_config": {
            "model_type": "clip_vision_model" if clip else "blip_2_vision_model",
            "hidden_act": "quick_gelu" if clip else "gelu",
            "hidden_size": vision["width"],
            "intermediate_size": vision["mlp_hidden"],
            "num_hidden_layers": vision["depth"],
            "num_attention_heads": vision["heads"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "layer_norm_eps": vision["layer_norm_eps"],
            "attention_dropout": 0.0,
        },
        "qformer_config": {
            "hidden_size": qformer["hidden"],
            "num_hidden_layers": qformer["layers"],
            "num_attention_heads": qformer["heads"],
            "intermediate_size": qformer["intermediate"],
            "vocab_size": qformer["vocab"],
            "max_position_embeddings": qformer["max_position"],
            "cross_attention_frequency": qformer["cross_attention_frequency"],
            "encoder_hidden_size": qformer["encoder_width"],
            "layer_norm_eps": qformer["layer_norm_eps"],
        },
    }
