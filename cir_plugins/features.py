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


def narrowed(features: Features, dtype: torch.dtype | None, where: str, accepted: str) -> Features:
    """The features with floating-point parts in ``dtype``; as they are where it is None.

    Args:
        features: Features.
        dtype: Dtype to store them in.
        where: What they are stored in, for the message.
        accepted: What the user may ask for instead.

    Raises:
        CIRError: If a finite number is too large for the dtype.
    """
    if dtype is None:
        return features

    def narrow(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            return part
        made = part.to(dtype)
        if bool((made.isinf() & part.isfinite()).any()):
            largest = float(part[part.isfinite()].abs().max())
            name = str(dtype).removeprefix("torch.")
            raise CIRError(
                f"{where}: features up to {largest:.4g} do not fit into {name}, whose largest "
                f"number is {torch.finfo(dtype).max:.4g}; accepted: {accepted}"
            )
        return made

    return each(features, narrow)


def size_in_bytes(features: Features) -> int:
    """Memory the features take."""
    return sum(part.numel() * part.element_size() for part in tensors_of(features))
