"""BLIP-2's files: configuration and weights by architecture, hub name or local folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins.builtin.hub import find_hub_file, hub_file
from cir_plugins.builtin.towers import LN_VISION_EPS, TOWERS
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, write_json

_QFORMER = {"vocab_size": 30523, "use_qformer_text_input": True}
# Source: LAVIS' pretrain (EVA ViT-g/14) and pretrain_vitL (CLIP ViT-L/14 without its last block).
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "vit_g": {"vision_config": {"image_size": 224}, "qformer_config": _QFORMER},
        "vit_l": {
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 23,
                "num_attention_heads": 16,
                "image_size": 224,
                "patch_size": 14,
                "hidden_act": "quick_gelu",
            },
            "qformer_config": _QFORMER,
        },
    }
)
TOKENIZERS: Mapping[str, str] = MappingProxyType(dict.fromkeys(ARCHITECTURES, "bert-base-uncased"))


def load_model(name: str, weights: str, dropout: float) -> Any:
    """A ``Blip2ForImageTextRetrieval`` in fp32, by architecture, hub name or local folder.

    Args:
        name: ``vit_g``, ``vit_l``, a hub name or a folder.
        weights: ``pretrained`` or ``random``.
        dropout: Dropout of the Q-Former; below 0 for the model's own.

    Raises:
        CIRError: If it cannot be loaded.
    """
    from safetensors import SafetensorError
    from transformers import Blip2Config

    try:
        config, vision = _configuration(name)
        if dropout >= 0:
            config["qformer_config"]["hidden_dropout_prob"] = dropout
            config["qformer_config"]["attention_probs_dropout_prob"] = dropout
        model = _build(Blip2Config.from_dict(config), vision)
        if weights == "pretrained":
            _require_weights(name)
            _read_weights(model, name)
    # A state of other shapes is a RuntimeError to torch.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CIRError(f"BLIP-2 model '{name}' could not be loaded: {reason}") from error
    return model


def save_model(model: Any, folder: Path) -> None:
    """Write a model and its configuration into a folder that ``load_model`` takes."""
    model.save_pretrained(folder)
    vision = getattr(model, "stand_in", None)
    if vision is not None:
        path = folder / "config.json"
        config: Any = read_json(path)
        write_json(path, {**config, "vision_config": vision})


def _configuration(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The model's configuration, and that of its vision tower where it is not BLIP-2's own."""
    if name in ARCHITECTURES:
        return _split(ARCHITECTURES[name])
    try:
        path = hub_file(name, "config.json")
    except CIRError as error:
        raise CIRError(
            f"no BLIP-2 model '{name}': {error}\n"
            "accepted: vit_g, vit_l, a hub name, or a folder with config.json, model.safetensors "
            "and a tokenizer; without a network also backbone=tiny_blip2"
        ) from error
    config = read_json(path)
    if not isinstance(config, dict) or "qformer_config" not in config:
        raise ValueError(f"{path} is no configuration of a BLIP-2 model with a Q-Former")
    return _split(config)


def _split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    copied: dict[str, Any] = json.loads(json.dumps(config, default=dict))  # callers change it
    vision: dict[str, Any] = copied.get("vision_config", {})
    if vision.get("model_type") not in TOWERS:
        return copied, None
    # The Q-Former's key and value width is the vision config's hidden size; the layers come from
    # the tower that replaces the EVA one.
    placeholder = {
        "hidden_size": vision["hidden_size"],
        "image_size": vision["image_size"],
        "patch_size": vision.get("patch_size", vision["image_size"]),
        "num_hidden_layers": 0,
    }
    return {**copied, "vision_config": placeholder}, vision


def _build(config: Any, vision: dict[str, Any] | None) -> Any:
    from transformers import Blip2ForImageTextRetrieval

    config.qformer_config.use_qformer_text_input = True
    model = Blip2ForImageTextRetrieval(config)
    if vision is not None:
        model.vision_model = TOWERS[vision["model_type"]](vision)
        model.stand_in = vision
    else:
        model.vision_model.post_layernorm.eps = LN_VISION_EPS
    # transformers leaves them at zero; under random weights they would all stay equal.
    torch.nn.init.normal_(model.query_tokens, std=config.qformer_config.initializer_range)
    return model


def _files_of(index: Path) -> list[str]:
    """Names of the files that an index of weights names."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise CIRError(f"{index} is no index of weights: it has no table 'weight_map'")
    return sorted(set(names.values()))


def _require_weights(name: str) -> None:
    if name in ARCHITECTURES:
        raise CIRError(
            f"BLIP-2 architecture '{name}' has no weights of its own; accepted: weights=random, or "
            "a hub name or folder as the model"
        )


def _read_weights(model: nn.Module, name: str) -> None:
    from safetensors.torch import load_file

    try:
        index = find_hub_file(name, "model.safetensors.index.json")
        files = ["model.safetensors"] if index is None else _files_of(index)
        shards = [hub_file(name, file) for file in files]
    except CIRError as error:
        raise CIRError(f"BLIP-2 model '{name}' could not be loaded: {error}") from error
    state: dict[str, Tensor] = {}
    for shard in shards:
        state.update(load_file(str(shard)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    unexpected = [key for key in unexpected if not key.endswith("position_ids")]
    if missing or unexpected:
        raise CIRError(
            f"weights of '{name}' do not fit a Blip2ForImageTextRetrieval: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
