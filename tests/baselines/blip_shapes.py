"""Keys and shapes of official CLIP, BLIP and Combiner checkpoints, written from their layout."""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors without content."""
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Small numbers."""
    rng = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=rng) / 10 for key, shape in shapes.items()}


def linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    running = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return {**norm(name, width), **running, f"{name}.num_batches_tracked": ()}


def blip_image(width: int, depth: int, mlp: int, tokens: int, patch: int, embed: int) -> Shapes:
    shapes: Shapes = {
        "visual_encoder.cls_token": (1, 1, width),
        "visual_encoder.pos_embed": (1, tokens, width),
        "visual_encoder.patch_embed.proj.weight": (width, 3, patch, patch),
        "visual_encoder.patch_embed.proj.bias": (width,),
    }
    for number in range(depth):
        block = f"visual_encoder.blocks.{number}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", 3 * width, width)
        shapes |= linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", mlp, width) | linear(f"{block}.mlp.fc2", width, mlp)
    return shapes | norm("visual_encoder.norm", width) | linear("vision_proj", embed, width)


def blip_text(
    width: int, depth: int, mlp: int, words: int, seen: int, embed: int, positions: int = 512
) -> Shapes:
    shapes: Shapes = {
        "text_encoder.embeddings.position_ids": (1, positions),
        "text_encoder.embeddings.word_embeddings.weight": (words, width),
        "text_encoder.embeddings.position_embeddings.weight": (positions, width),
        **norm("text_encoder.embeddings.LayerNorm", width),
    }
    for number in range(depth):
        layer = f"text_encoder.encoder.layer.{number}"
        for matrix, inputs in (("attention", width), ("crossattention", seen)):
            shapes |= linear(f"{layer}.{matrix}.self.query", width, width)
            shapes |= linear(f"{layer}.{matrix}.self.key", width, inputs)
            shapes |= linear(f"{layer}.{matrix}.self.value", width, inputs)
            shapes |= linear(f"{layer}.{matrix}.output.dense", width, width)
            shapes |= norm(f"{layer}.{matrix}.output.LayerNorm", width)
        shapes |= linear(f"{layer}.intermediate.dense", mlp, width)
        shapes |= linear(f"{layer}.output.dense", width, mlp)
        shapes |= norm(f"{layer}.output.LayerNorm", width)
    return shapes | linear("text_proj", embed, width)


def combiner(size: int, projection: int, hidden: int) -> Shapes:
    return {
        **linear("text_projection_layer", projection, size),
        **linear("image_projection_layer", projection, size),
        **linear("combiner_layer", hidden, 2 * projection),
        **linear("output_layer", size, hidden),
        **linear("dynamic_scalar.0", hidden, 2 * projection),
        **linear("dynamic_scalar.3", 1, hidden),
    }


def clip_resnet(
    width: int, blocks: tuple[int, ...], side: int, embed: int, text: int, depth: int, words: int
) -> Shapes:
    """OpenAI CLIP with a ResNet tower of ``side`` pixels."""
    half = width // 2
    shapes: Shapes = {
        "positional_embedding": (77, text),
        "text_projection": (text, embed),
        "logit_scale": (),
        "token_embedding.weight": (words, text),
        **norm("ln_final", text),
        "visual.conv1.weight": (half, 3, 3, 3),
        "visual.conv2.weight": (half, half, 3, 3),
        "visual.conv3.weight": (width, half, 3, 3),
        **batch_norm("visual.bn1", half),
        **batch_norm("visual.bn2", half),
        **batch_norm("visual.bn3", width),
    }
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for number in range(count):
            block = f"visual.layer{stage + 1}.{number}"
            shapes |= {
                f"{block}.conv1.weight": (inner, inputs, 1, 1),
                f"{block}.conv2.weight": (inner, inner, 3, 3),
                f"{block}.conv3.weight": (4 * inner, inner, 1, 1),
                **batch_norm(f"{block}.bn1", inner),
                **batch_norm(f"{block}.bn2", inner),
                **batch_norm(f"{block}.bn3", 4 * inner),
            }
            if number == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * inner, inputs, 1, 1)
                shapes |= batch_norm(f"{block}.downsample.1", 4 * inner)
            inputs = 4 * inner
    tower = "visual.attnpool"
    shapes[f"{tower}.positional_embedding"] = ((side // 32) ** 2 + 1, inputs)
    for matrix in "qkv":
        shapes |= linear(f"{tower}.{matrix}_proj", inputs, inputs)
    shapes |= linear(f"{tower}.c_proj", embed, inputs)
    for number in range(depth):
        block = f"transformer.resblocks.{number}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * text, text)}
        shapes |= {f"{block}.attn.in_proj_bias": (3 * text,)}
        shapes |= linear(f"{block}.attn.out_proj", text, text)
        shapes |= norm(f"{block}.ln_1", text) | norm(f"{block}.ln_2", text)
        shapes |= linear(f"{block}.mlp.c_fc", 4 * text, text)
        shapes |= linear(f"{block}.mlp.c_proj", text, 4 * text)
    return shapes
