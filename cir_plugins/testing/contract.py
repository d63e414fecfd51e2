"""What all contract checks share: the error, and statements about tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.plugins.options import options_of

if TYPE_CHECKING:
    from PIL.Image import Image

TEXTS = ("is red with long sleeves", "shorter", "has a floral print and no buttons, less formal")


class ContractError(AssertionError):
    """A component does not keep its contract; the message names what to fix."""


def require(condition: bool, message: str) -> None:
    """Nothing, if the condition holds; a ``ContractError`` with the message otherwise."""
    if not condition:
        raise ContractError(message)


@contextmanager
def calling(what: str, inputs: str) -> Iterator[None]:
    """A context for a call of a component: whatever it raises becomes a ``ContractError``.

    Args:
        what: What is called, such as ``the sampler``.
        inputs: What it is called with, such as ``scores (2, 1): a single candidate``.
    """
    try:
        yield
    except ContractError:
        raise
    except Exception as error:  # a component of another hand may raise anything
        name = type(error).__name__
        raise ContractError(f"{what} raises {name} on {inputs}: {error}") from error


def require_built(kind: str, component: object) -> None:
    """Nothing, if the component is built and can be called."""
    name = getattr(component, "__name__", "")
    require(
        not isinstance(component, type),
        f"the {kind} must be built: give the check {name}(), not the class {name}",
    )
    require(callable(component), f"the {kind} must be callable, found {component!r:.80}")


def shown(scores: Tensor) -> str:
    """The scores' shape in words, with their precision where it is not single."""
    half = "" if scores.dtype == torch.float32 else f" in {scores.dtype}".replace("torch.", "")
    return f"scores {tuple(scores.shape)}{half}"


def require_tensor(what: str, value: object, shape: Sequence[int | None]) -> Tensor:
    """The value, a tensor of that shape; None stands for any size."""
    expected = tuple("any" if size is None else size for size in shape)
    if not isinstance(value, Tensor):
        raise ContractError(f"{what} must be a tensor {expected}, not {type(value).__name__}")
    fits = len(value.shape) == len(shape) and all(
        size in (None, length) for size, length in zip(shape, value.shape, strict=True)
    )
    require(fits, f"{what} must have shape {expected}, found {tuple(value.shape)}")
    return value


def require_finite(what: str, value: Tensor) -> None:
    """Nothing, if every number is finite."""
    require(bool(torch.isfinite(value).all()), f"{what} holds NaN or infinite numbers")


def require_unit(what: str, value: Tensor) -> None:
    """Nothing, if the vectors (..., D) have unit length."""
    require_finite(what, value)
    off = float((value.norm(dim=-1) - 1).abs().max())
    require(off < 1e-3, f"{what} must have unit length; a length is off by {off:.3g}")


def require_unchanged(what: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Nothing, if the inputs are as they were."""
    for name, value in before.items():
        require(torch.equal(value, after[name]), f"{what} changes its input '{name}' in place")


def require_close(what: str, value: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Nothing, if both tensors are equal within an absolute tolerance."""
    require_tensor(what, value, tuple(expected.shape))
    off = float((value.float() - expected.float()).abs().max()) if value.numel() else 0.0
    require(off <= tolerance, f"{what}: off by {off:.3g}, accepted: {tolerance:.3g}")


def require_options(factory: Any, *, required: tuple[str, ...] = ()) -> None:
    """Nothing, if a factory's options are typed keyword parameters that all have defaults.

    Args:
        factory: The factory.
        required: Parameters that may have no default, such as a method's ``components``.
    """
    import inspect

    try:
        options = options_of(factory)
    except (ValueError, CIRError) as error:
        raise ContractError(f"options: {error}") from error
    for name, parameter in inspect.signature(factory).parameters.items():
        variable = parameter.kind is parameter.VAR_POSITIONAL
        require(
            name in options or name in required or variable,
            f"parameter '{name}' of {factory!r} needs a default: every option has one",
        )


def pictures(count: int, seed: int) -> list[Image]:
    """RGB images of different sizes, filled with noise."""
    from PIL import Image

    rng = random.Random(seed)
    images = []
    for index in range(count):
        size = (40 + 8 * index, 64 - 4 * index)
        images.append(Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1])))
    return images
