"""Backbone features as one value: a tensor or a named tuple, images along dimension 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cir_plugins.types import Features


def each(features: Features, function: Callable[[Tensor], Tensor]) -> Features:
    """The features with ``function`` applied to every tensor in them."""
    if isinstance(features, Tensor):
        return function(features)
    return type(features)(*(function(part) for part in features))


def select(features: Features, index: Tensor) -> Features:
    """The features of the images at ``index`` (n,), leading dimension n."""
    return each(features, lambda part: part.index_select(0, index.to(part.device)))


def concatenate(parts: Sequence[Features]) -> Features:
    """One value from the features of several groups of images, in order."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return type(parts[0])(*(torch.cat(list(tensors)) for tensors in zip(*parts, strict=True)))


def count(features: Features) -> int:
    """How many images the features are of."""
    first = features if isinstance(features, Tensor) else features[0]
    return int(first.shape[0])


def tensors_of(features: Features) -> tuple[Tensor, ...]:
    """The tensors of the features, in order."""
    return (features,) if isinstance(features, Tensor) else tuple(features)


def size_in_bytes(features: Features) -> int:
    """Memory the features take."""
    return sum(part.numel() * part.element_size() for part in tensors_of(features))
