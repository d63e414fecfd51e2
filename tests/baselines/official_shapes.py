"""Keys and shapes of official checkpoints at their published size, without weights."""

from __future__ import annotations

import torch
from torch import Tensor


def empty(shapes: dict[str, tuple[int, ...]], device: str = "meta") -> dict[str, Tensor]:
    """Tensors of these shapes."""
    return {key: torch.empty(shape, device=device) for key, shape in shapes.items()}


def resnet18(prefix: str) -> dict[str, tuple[int, ...]]:
    """Torchvision's ResNet-18 without its last layer."""
    import torchvision

    with torch.device("meta"):
        state = torchvision.models.resnet18(weights=None).state_dict()
    return {
        prefix + key: tuple(value.shape)
        for key, value in state.items()
        if not key.startswith("fc.")
    }


def norm(prefix: str, size: int) -> dict[str, tuple[int, ...]]:
    """A batch norm."""
    names = ("weight", "bias", "running_mean", "running_var")
    counter: dict[str, tuple[int, ...]] = {f"{prefix}.num_batches_tracked": ()}
    return {**{f"{prefix}.{name}": (size,) for name in names}, **counter}


def layer(prefix: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """A weight of this shape and its bias."""
    return {f"{prefix}.weight": shape, f"{prefix}.bias": (shape[0],)}


def tirg_encoders(words: int, text: int) -> dict[str, tuple[int, ...]]:
    """What every model of TIRG's code holds: ResNet-18, scale, LSTM of this size."""
    return {
        "normalization_layer.norm_s": (1,),
        **resnet18("img_model."),
        **layer("img_model.fc.0", 512, 512),
        "text_model.embedding_layer.weight": (words, text),
        "text_model.lstm.weight_ih_l0": (4 * text, text),
        "text_model.lstm.weight_hh_l0": (4 * text, text),
        "text_model.lstm.bias_ih_l0": (4 * text,),
        "text_model.lstm.bias_hh_l0": (4 * text,),
        **layer("text_model.fc_output.1", text, text),
    }
