"""BLIP's files: configuration and weights by architecture, hub name, folder or official checkpoint.

Source: Li, Li, Xiong, Hoi, BLIP, ICML 2022, arXiv 2201.12086; its repository's key names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from baselines_plugin.backbones.blip_tower import PooledTower, tiny_config
from cir_plugins import CIRError, Ledger, hub_file, load_untrusted, read_json

# Values other than transformers' defaults: 8 heads, no dropout, epsilon 1e-5, a tower of zeros.
_TEXT = {
    "num_attention_heads": 12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "is_decoder": True,
}
_VISION = {"image_size": 384, "layer_norm_eps": 1e-6, "initializer_range": 0.02}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "blip_base": {"vision_config": _VISION, "text_config": _TEXT},
        "blip_large": {
            "vision_config": {
                **_VISION,
                "hidden_size": 1024,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "intermediate_size": 4096,
            },
            "text_config": _TEXT,
        },
    }
)
TOKENIZERS: Mapping[str, str] = MappingProxyType(dict.fromkeys(ARCHITECTURES, "bert-base-uncased"))
POSITIONS = "vision_model.embeddings.position_embedding"

# (official, ours): beginnings of keys, then pieces inside the keys of a block.
_BEGINNINGS = (
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", POSITIONS),
    ("visual_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
    ("visual_encoder.blocks.", "vision_model.encoder.layers."),
    ("visual_encoder.norm.", "vision_model.post_layernorm."),
)
_INSIDE = (
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
)
_MODEL = r"(?:visual_encoder|text_encoder|vision_proj|text_proj|itm_head)\..+"
_UNUSED = (
    r"text_encoder\.embeddings\.position_ids",  # 0, 1, 2, ... in transformers
    r"\w+_m\..+",  # momentum copies of pretraining
    r"image_queue|text_queue|queue_ptr|ptr_queue|idx_queue|temp",
    r"text_decoder\..+",
)


def our_key(official: str) -> str:
    """The key of ``BlipForImageTextRetrieval`` for one of BLIP's own repository."""
    return _renamed(official, "visual_encoder.", 0, 1)


def official_key(ours: str) -> str:
    """The key of BLIP's own repository for one of ``BlipForImageTextRetrieval``."""
    return _renamed(ours, "vision_model.", 1, 0)


def _renamed(key: str, tower: str, old: int, new: int) -> str:
    if not key.startswith(tower):
        return key
    for names in _BEGINNINGS:
        if key.startswith(names[old]):
            key = names[new] + key.removeprefix(names[old])
            break
    for names in _INSIDE:
        key = key.replace(names[old], names[new])
    return key


def from_salesforce(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of BLIP's own repository under our keys.

    Raises:
        CIRError: If it has keys that BLIP does not have.
    """
    ledger = Ledger(state, "the BLIP checkpoint")
    renamed = take_blip(ledger)
    ledger.finish()
    return renamed


def to_salesforce(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state under the keys of BLIP's own repository, without position ids and queues."""
    return {official_key(key): value for key, value in state.items()}


def take_blip(ledger: Ledger, prefix: str = "") -> dict[str, Tensor]:
    """BLIP's tensors of a ledger under our keys; its unused keys are discarded.

    Args:
        ledger: Keys of BLIP's own repository, perhaps among others.
        prefix: Pattern before each of them.
    """
    ledger.drop(*(f"{prefix}(?:{pattern})" for pattern in _UNUSED))
    tensors = ledger.rename(f"{prefix}({_MODEL})", r"\1")
    return {our_key(key): value for key, value in tensors.items()}


def fit_positions(table: Tensor, count: int) -> Tensor:
    """Position embeddings (1, count, W) resized to another grid, bicubic; that of [CLS] stays."""
    if table.shape[1] == count:
        return table
    old, new = (round((number - 1) ** 0.5) for number in (table.shape[1], count))
    grid = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid.float(), size=(new, new), mode="bicubic", align_corners=False
    )
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


def load_model(name: str, weights: str, dropout: float) -> Any:
    """A ``BlipForImageTextRetrieval`` in fp32.

    Args:
        name: ``blip_base``, ``blip_large``, a hub name or a folder.
        weights: ``pretrained``, ``random``, or a checkpoint of BLIP's own repository.
        dropout: Dropout of the text encoder; below 0 for the model's own.

    Raises:
        CIRError: If it cannot be loaded.
    """
    from safetensors import SafetensorError

    config = _configuration(name)
    if dropout >= 0:
        config["text_config"]["hidden_dropout_prob"] = dropout
        config["text_config"]["attention_probs_dropout_prob"] = dropout
    if weights == "pretrained" and name in ARCHITECTURES:
        raise CIRError(
            f"BLIP architecture '{name}' has no weights of its own; accepted: weights=random, "
            "weights=FILE of BLIP's repository, or a hub name or folder as the model"
        )
    try:
        model = _build(config)
        if weights == "pretrained":
            _read_folder(model, name)
        elif weights != "random":
            _read_official(model, Path(weights))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise CIRError(f"BLIP model '{name}' could not be loaded: {reason}") from error
    return model


def _configuration(name: str) -> dict[str, Any]:
    config: Mapping[str, Any]
    if name in ARCHITECTURES:
        config = ARCHITECTURES[name]
    elif name == "tiny_blip":
        config = tiny_config()
    else:
        try:
            path = hub_file(name, "config.json")
        except CIRError as error:
            raise CIRError(
                f"no BLIP model '{name}': {error}\n"
                "accepted: blip_base, blip_large, a hub name, or a folder with config.json, "
                "model.safetensors and a tokenizer; without a network also backbone=tiny_blip"
            ) from error
        content = read_json(path)
        if not isinstance(content, dict):
            raise CIRError(f"{path} is no configuration of a BLIP model")
        config = content
    copied: dict[str, Any] = {"vision_config": {}, "text_config": {}}
    return copied | json.loads(json.dumps(config, default=dict))  # type: ignore[no-any-return]


def _build(config: dict[str, Any]) -> Any:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    tower = config["vision_config"]
    if tower.get("model_type") != "timm_resnet":
        return BlipForImageTextRetrieval(BlipConfig.from_dict(config))
    placeholder = {key: tower[key] for key in ("hidden_size", "image_size")}
    placeholder |= {"patch_size": tower["image_size"], "num_hidden_layers": 0}
    model = BlipForImageTextRetrieval(
        BlipConfig.from_dict({**config, "vision_config": placeholder})
    )
    model.vision_model = PooledTower(tower)
    return model


def _read_folder(model: Any, name: str) -> None:
    from safetensors.torch import load_file

    state = load_file(hub_file(name, "model.safetensors"))
    _load(model, {key: v for key, v in state.items() if not key.endswith("position_ids")}, name)


def _read_official(model: Any, file: Path) -> None:
    content = load_untrusted(file)
    inner = content.get("model", content)
    if not isinstance(inner, Mapping):
        raise CIRError(f"checkpoint {file} holds no BLIP model: its 'model' is no state dict")
    state = from_salesforce(inner)
    if POSITIONS in state:
        count = model.vision_model.embeddings.position_embedding.shape[1]
        state[POSITIONS] = fit_positions(state[POSITIONS], count)
    # Checkpoints tuned for another task lack the matching head, which is unused here.
    head = model.itm_head.state_dict(prefix="itm_head.")
    _load(model, {**head, **state}, str(file))


def _load(model: Any, state: Mapping[str, Tensor], where: str) -> None:
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    unexpected = sorted(set(state) - set(expected))
    shapes = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        raise CIRError(
            f"weights of '{where}' do not fit a BlipForImageTextRetrieval: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}, of other shape {shapes[:3]}"
        )
    model.load_state_dict(state)
