"""Backbone features as one value: a tensor or a named tuple, images along dimension 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.types import Features


def each(features: Features, function: Callable[[Tensor], Tensor]) -> Features:
    """The features with ``function`` applied to every tensor in them."""
    if isinstance(features, Tensor):
        return function(features)
    return type(features)(*(function(tensor) for tensor in features))


def select(features: Features, index: Tensor) -> Features:
    """The features of the images at ``index`` (n,), leading dimension n."""
    return each(features, lambda tensor: tensor.index_select(0, index.to(tensor.device)))


def concatenate(groups: Sequence[Features]) -> Features:
    """The features of several groups of images as one value, in order."""
    first = groups[0]
    if isinstance(first, Tensor):
        return torch.cat(list(groups))
    return type(first)(*(torch.cat(list(tensors)) for tensors in zip(*groups, strict=True)))


def count(features: Features) -> int:
    """Number of images that the features are of."""
    first = features if isinstance(features, Tensor) else features[0]
    return int(first.shape[0])


def tensors_of(features: Features) -> tuple[Tensor, ...]:
    """The tensors of the features, in order."""
    return (features,) if isinstance(features, Tensor) else tuple(features)


def narrowed(features: Features, dtype: torch.dtype | None, where: str, accepted: str) -> Features:
    """The features with floating-point tensors in ``dtype``; as they are where it is None.

    Args:
        features: Features.
        dtype: Dtype to store them in.
        where: What they are stored in, for the message.
        accepted: Options that help, for the message.

    Raises:
        CIRError: If a finite number is too large for the dtype.
    """
    if dtype is None:
        return features

    def narrow(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        rounded = tensor.to(dtype)
        if bool((rounded.isinf() & tensor.isfinite()).any()):
            largest = float(tensor[tensor.isfinite()].abs().max())
            name = str(dtype).removeprefix("torch.")
            raise CIRError(
                f"{where}: features up to {largest:.4g} do not fit into {name}, whose largest "
                f"number is {torch.finfo(dtype).max:.4g}; accepted: {accepted}"
            )
        return rounded

    return each(features, narrow)


def size_in_bytes(features: Features) -> int:
    """Memory that the features take, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(features))
