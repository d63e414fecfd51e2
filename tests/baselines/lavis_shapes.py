"""Official keys and shapes of BLIP-2 in LAVIS' naming, at any size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def eva(width: int, mlp: int, depth: int, positions: int, patch: int) -> Shapes:
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, positions, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for block in (f"blocks.{number}" for number in range(depth)):
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= {f"{block}.attn.q_bias": (width,), f"{block}.attn.v_bias": (width,)}
        shapes |= {f"{block}.attn.qkv.weight": (3 * width, width)}
        shapes |= linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", mlp, width) | linear(f"{block}.mlp.fc2", width, mlp)
    return shapes


def clip(width: int, mlp: int, depth: int, positions: int, patch: int) -> Shapes:
    shapes: Shapes = {
        "class_embedding": (width,),
        "positional_embedding": (positions, width),
        "conv1.weight": (width, 3, patch, patch),
        **norm("ln_pre", width),
    }
    for block in (f"transformer.resblocks.{number}" for number in range(depth)):
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width)}
        shapes |= {f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= linear(f"{block}.mlp.c_fc", mlp, width)
        shapes |= linear(f"{block}.mlp.c_proj", width, mlp)
    return shapes


def qformer(
    vision: int,
    *,
    hidden: int = 768,
    mlp: int = 3072,
    layers: int = 12,
    words: int = 30523,
    shared: int = 256,
    queries: int = 32,
) -> Shapes:
    """Everything but the ViT, ``temp``, ``prompt_tokens`` and ``itm_head``."""
    bert, head = "Qformer.bert.embeddings", "Qformer.cls.predictions"
    shapes: Shapes = {
        "query_tokens": (1, queries, hidden),
        f"{bert}.position_ids": (1, 512),
        f"{bert}.word_embeddings.weight": (words, hidden),
        f"{bert}.position_embeddings.weight": (512, hidden),
        **norm(f"{bert}.LayerNorm", hidden),
        f"{head}.bias": (words,),
        **linear(f"{head}.transform.dense", hidden, hidden),
        **norm(f"{head}.transform.LayerNorm", hidden),
        **linear(f"{head}.decoder", words, hidden),
        **norm("ln_vision", vision),
        **linear("vision_proj", shared, hidden),
        **linear("text_proj", shared, hidden),
    }
    for number in range(layers):
        layer = f"Qformer.bert.encoder.layer.{number}"
        shapes |= _attention(f"{layer}.attention", hidden, hidden)
        if number % 2 == 0:
            shapes |= _attention(f"{layer}.crossattention", hidden, vision)
        for ending in ("", "_query"):
            shapes |= linear(f"{layer}.intermediate{ending}.dense", mlp, hidden)
            shapes |= linear(f"{layer}.output{ending}.dense", hidden, mlp)
            shapes |= norm(f"{layer}.output{ending}.LayerNorm", hidden)
    return shapes


def _attention(name: str, hidden: int, inputs: int) -> Shapes:
    return {
        **linear(f"{name}.self.query", hidden, hidden),
        **linear(f"{name}.self.key", hidden, inputs),
        **linear(f"{name}.self.value", hidden, inputs),
        **linear(f"{name}.output.dense", hidden, hidden),
        **norm(f"{name}.output.LayerNorm", hidden),
    }


VIT_G = eva(1408, 6144, 39, 257, 14)
VIT_L = clip(1024, 4096, 23, 257, 14)
HEAD: Shapes = {"itm_head.weight": (2, 768), "itm_head.bias": (2,)}
TEMP: Shapes = {"temp": ()}


def visual(shapes: Shapes) -> Shapes:
    return {f"visual_encoder.{key}": shape for key, shape in shapes.items()}


def filled(
    shapes: Shapes, make: Callable[[tuple[int, ...]], Tensor] = torch.empty
) -> dict[str, Tensor]:
    """Tensors of these shapes; ``position_ids`` are whole numbers."""
    return {
        key: make(shape).long() if key.endswith("position_ids") else make(shape)
        for key, shape in shapes.items()
    }


def empty(shape: tuple[int, ...]) -> Tensor:
    """A tensor without memory."""
    return torch.empty(shape, device="meta")
