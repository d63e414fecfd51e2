"""LAVIS' start files of BLIP-2, converted to a folder for the backbone ``blip2``.

``python -m baselines_plugin.checkpoints.lavis FILES... --out FOLDER`` writes the folder, for
``--set backbone.model=FOLDER``. FILES are a ``blip2_pretrained*.pth`` and its ViT's file, or one
file with both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from baselines_plugin.checkpoints.lavis_keys import CLIP_LAYER, EVA_LAYER, VIT, blip2_state
from cir_plugins import CIRError, Ledger, from_hub, load_untrusted

# Blocks of the ViTs in BLIP-2: the last one of each published file is unused.
_DEPTH = MappingProxyType({"eva": 39, "clip": 23})
_HEAD = MappingProxyType({"eva": 88, "clip": 64, "qformer": 64})  # channels per attention head


def start_state(files: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State of the model from LAVIS' start files, and the remaining tensors.

    Args:
        files: Contents: one with the entry ``model``, and the ViT's unless the first has it.

    Raises:
        CIRError: If the ViT or the model is missing.
    """
    models = [file["model"] for file in files if isinstance(file.get("model"), Mapping)]
    if len(models) != 1:
        raise CIRError(
            f"{len(models)} of the {len(files)} files have an entry 'model'; "
            "accepted: one blip2_*.pth of LAVIS and at most one file of its ViT"
        )
    merged: dict[str, Any] = {}
    for file in files:
        if not isinstance(file.get("model"), Mapping):
            merged |= {VIT + key: value for key, value in file.items()}
    merged |= models[0]
    if not any(key.startswith(VIT) for key in merged):
        raise CIRError(
            "the files hold no ViT; accepted: in addition eva_vit_g.pth or clip_vit_L.pth"
        )
    ledger = Ledger(merged, "the start file")
    for name, blocks in (("eva", r"blocks"), ("clip", r"transformer\.resblocks")):
        last = _blocks_of(merged, blocks.replace("\\", ""))
        for block in range(_DEPTH[name], last):
            ledger.drop(rf"visual_encoder\.{blocks}\.{block}\..*")
    state = blip2_state(ledger)
    state.setdefault("itm_head.weight", torch.zeros(2, state["query_tokens"].shape[-1]))
    state.setdefault("itm_head.bias", torch.zeros(2))
    return state, ledger.rename(r"(.+)", r"\1")


def _blocks_of(state: Mapping[str, Any], name: str) -> int:
    start = f"{VIT}{name}."
    numbers = [key.removeprefix(start).split(".")[0] for key in state if key.startswith(start)]
    return max((int(number) for number in numbers), default=-1) + 1


def start_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The ``config.json`` of a model with this state, with sizes from the tensors.

    Raises:
        CIRError: If a tensor with a size is missing.
    """
    try:
        vision = _clip_config(state) if _is_clip(state) else _eva_config(state)
        tokens = state["query_tokens"].shape
        words = state["embeddings.word_embeddings.weight"].shape[0]
        positions = state["embeddings.position_embeddings.weight"].shape[0]
        hidden = state["qformer.encoder.layer.0.intermediate_query.dense.weight"].shape[0]
        shared = state["text_projection.weight"].shape[0]
    except KeyError as error:
        raise CIRError(f"the start files are not BLIP-2's: {error.args[0]} is missing") from error
    return {
        "model_type": "blip-2",
        "architectures": ["Blip2ForImageTextRetrieval"],
        "num_query_tokens": tokens[1],
        "image_text_hidden_size": shared,
        "vision_config": vision,
        "qformer_config": {
            "hidden_size": tokens[2],
            "num_hidden_layers": _count(state, "qformer.encoder.layer."),
            "num_attention_heads": max(1, tokens[2] // _HEAD["qformer"]),
            "intermediate_size": hidden,
            "max_position_embeddings": positions,
            "use_qformer_text_input": True,
            "vocab_size": words,
            "encoder_hidden_size": vision["hidden_size"],
        },
    }


def _is_clip(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("vision_model.clip.") for key in state)


def _eva_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embeddings = "vision_model.embeddings."
    positions = state[f"{embeddings}position_embedding"].shape[1]
    config = _tower(state, f"{embeddings}patch_embedding.weight", EVA_LAYER, positions, "eva")
    return {"model_type": "blip_2_vision_model", **config}


def _clip_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embeddings = "vision_model.clip.embeddings."
    positions = state[f"{embeddings}position_embedding.weight"].shape[0]
    config = _tower(state, f"{embeddings}patch_embedding.weight", CLIP_LAYER, positions, "clip")
    return {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", **config}


def _tower(
    state: Mapping[str, Tensor], patches: str, layers: str, positions: int, kind: str
) -> dict[str, Any]:
    width, _, patch, _ = state[patches].shape
    return {
        "hidden_size": width,
        "intermediate_size": state[f"{layers}0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": _count(state, layers),
        "num_attention_heads": max(1, width // _HEAD[kind]),
        "image_size": patch * round((positions - 1) ** 0.5),
        "patch_size": patch,
    }


def _count(state: Mapping[str, Tensor], start: str) -> int:
    return len({key.removeprefix(start).split(".")[0] for key in state if key.startswith(start)})


def write_start(files: Sequence[Path], out: Path, tokenizer: str) -> dict[str, Tensor]:
    """Write model, configuration and tokenizer; return the tensors that are not in the model.

    Args:
        files: The start files.
        out: Folder to write.
        tokenizer: Hub name or local folder of the tokenizer; empty to write none.

    Raises:
        CIRError: If a file or the tokenizer cannot be read, or the ViT or the model is missing.
    """
    from safetensors.torch import save_file

    state, left = start_state([load_untrusted(file) for file in files])
    config = start_config(state)
    out.mkdir(parents=True, exist_ok=True)
    if tokenizer:
        _copy_tokenizer(tokenizer, out)
    save_file({key: value.contiguous() for key, value in state.items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return left


def _copy_tokenizer(name: str, out: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = from_hub(
        AutoTokenizer.from_pretrained, "tokenizer", name, offline="--tokenizer '' to write none"
    )
    tokenizer.save_pretrained(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit code 2 with one message where a file does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m baselines_plugin.checkpoints.lavis",
        description="Write a folder for backbone.model from LAVIS' BLIP-2 files.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--tokenizer", default="bert-base-uncased", metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        left = write_start(options.files, options.out, options.tokenizer)
    except CIRError as error:
        parser.exit(2, f"{error}\n")
    lines = [f"wrote {options.out}: use it as --set backbone.model={options.out}"]
    temperature = left.pop("temp", None)
    if temperature is not None:
        lines.append(f"its temperature: --set method.temperature={float(temperature):.6g}")
    if left:
        lines.append(f"not in the model: {', '.join(left)}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
