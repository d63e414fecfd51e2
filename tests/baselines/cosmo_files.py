"""Made-up official checkpoints of CoSMo and MGUR: their keys and shapes, at any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def compositor_shapes(channels: int, text: int) -> Shapes:
    """Entry ``layer4``."""
    square = (channels, channels, 1, 1)
    shapes: Shapes = {"weights": (2,)}
    for attention in ("att_module", "att_module2"):
        shapes |= {
            f"{attention}.self_att_generator.W_k.weight": square,
            f"{attention}.self_att_generator.W_q.weight": square,
            f"{attention}.global_att_generator.W_t.weight": (channels, text),
            f"{attention}.global_att_generator.W_t.bias": (channels,),
            f"{attention}.merge.weight": (channels, channels + text, 1, 1),
            f"{attention}.W_v.weight": square,
            f"{attention}.W_r.weight": square,
            f"{attention}.W_r.bias": (channels,),
        }
    for layer in ("global_transform", "gate"):
        shapes[f"global_styler.{layer}.linear.weight_orig"] = (2 * channels, text)
        shapes[f"global_styler.{layer}.linear.bias"] = (2 * channels,)
    return shapes


def lstm_shapes(tokens: int, word: int, state: int, width: int) -> Shapes:
    """CoSMo's entry ``text_encoder``."""
    return {
        "embedding_layer.weight": (tokens, word),
        "lstm.weight_ih_l0": (4 * state, word),
        "lstm.weight_hh_l0": (4 * state, state),
        "lstm.bias_ih_l0": (4 * state,),
        "lstm.bias_hh_l0": (4 * state,),
        "fc.1.weight": (width, state),
        "fc.1.bias": (width,),
    }


def roberta_shapes(
    tokens: int, positions: int, types: int, hidden: int, inner: int, layers: int
) -> Shapes:
    """MGUR's entry ``text_encoder``."""

    def linear(name: str, outputs: int, inputs: int) -> Shapes:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str) -> Shapes:
        return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}

    entries: Shapes = {
        "embeddings.word_embeddings.weight": (tokens, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (types, hidden),
        "embeddings.position_ids": (1, positions),
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", hidden, hidden),
    }
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        for matrix in ("query", "key", "value"):
            entries |= linear(f"{layer}.attention.self.{matrix}", hidden, hidden)
        entries |= linear(f"{layer}.attention.output.dense", hidden, hidden)
        entries |= norm(f"{layer}.attention.output.LayerNorm")
        entries |= linear(f"{layer}.intermediate.dense", inner, hidden)
        entries |= linear(f"{layer}.output.dense", hidden, inner)
        entries |= norm(f"{layer}.output.LayerNorm")
    return {f"model.{name}": shape for name, shape in entries.items()}


def text_fc_shapes(states: int, width: int) -> Shapes:
    """MGUR's entry ``text_fc``."""
    norm = {f"model.0.{name}": (states,) for name in ("weight", "bias")}
    running: Shapes = {f"model.0.running_{name}": (states,) for name in ("mean", "var")}
    return {
        **norm,
        **running,
        "model.0.num_batches_tracked": (),
        "model.1.weight": (width, states),
        "model.1.bias": (width,),
    }


def resnet50_shapes() -> Shapes:
    """Entry ``lower_image_encoder``: torchvision's ResNet-50, its ImageNet classes included."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        state = resnet50(weights=None).state_dict()
    return {f"_model.{name}": tuple(value.shape) for name, value in state.items()}


def checkpoint(
    entries: Mapping[str, Shapes], fill: Callable[[tuple[int, ...]], Tensor]
) -> dict[str, object]:
    """A ``best.pth`` with these entries."""
    states = {
        name: {key: fill(shape) for key, shape in shapes.items()}
        for name, shapes in entries.items()
    }
    return {"model_state_dict": states, "optimizer_state_dict": {}, "step": 7}


def empty(shape: tuple[int, ...]) -> Tensor:
    """A tensor without values."""
    return torch.empty(shape, device="meta")
