"""BLIP at a case's size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from baselines_plugin.backbones.blip import Blip


def blip_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A ``config.json`` of the case's vision and text encoder, no dropout."""
    vision, text = meta["vision"], meta["text_encoder"]
    return {
        "image_text_hidden_size": meta["embed_dim"],
        "vision_config": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_size": vision["width"],
            "num_hidden_layers": vision["depth"],
            "num_attention_heads": vision["heads"],
            "intermediate_size": vision["mlp_hidden"],
            "layer_norm_eps": vision["layer_norm_eps"],
            "initializer_range": 0.02,
        },
        "text_config": {
            "vocab_size": text["vocab"],
            "hidden_size": text["hidden"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "intermediate_size": text["intermediate"],
            "max_position_embeddings": text["max_position"],
            "layer_norm_eps": text["layer_norm_eps"],
            "is_decoder": True,
            "bos_token_id": text["vocab"] - 2,
        },
    }


def blip_backbone(meta: Mapping[str, Any], **options: Any) -> Blip:
    """A BLIP of random weights with the case's dimensions, built from a folder."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(blip_config(meta)))
        return Blip(model=folder, weights="random", **options)
