"""Activation checkpointing and compiled blocks: the same numbers in less memory or time."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from cir_plugins.errors import CIRError

VARIANTS = 64  # of one block that are compiled at most
_COMPILERS: Mapping[str, str] = MappingProxyType({"darwin": "clang++", "win32": "cl"})


def checkpoint_activations(backbone: nn.Module) -> int:
    """Number of a backbone's networks that compute activations again in the backward pass.

    Networks of transformers, timm and open_clip can, with the same gradients and random numbers.
    One with batch norms keeps its activations: its running averages would count each batch twice.

    Raises:
        CIRError: If there is none.

    Source: Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016, arXiv
    1604.06174.
    """
    networks = [network for network in backbone.modules() if _is_able(network)]
    if not networks:
        raise CIRError(
            f"backbone {type(backbone).__name__} has no network whose activations can be computed "
            "again; accepted: memory.checkpointing=false, or a smaller train.micro_batch"
        )
    inside: set[nn.Module] = set()
    network: Any  # of another library
    for network in networks:
        if not getattr(network, "supports_gradient_checkpointing", False):
            network.set_grad_checkpointing(True)
        elif network not in inside:  # one call reaches those inside it
            # Its old name warns where the new one is there.
            new = getattr(network, "activation_checkpointing_enable", None)
            (new or network.gradient_checkpointing_enable)({"use_reentrant": False})
            inside.update(network.modules())
    return len(networks)


def _is_able(network: nn.Module) -> bool:
    if any(isinstance(inner, nn.modules.batchnorm._BatchNorm) for inner in network.modules()):
        return False
    return getattr(network, "supports_gradient_checkpointing", False) or callable(
        getattr(network, "set_grad_checkpointing", None)
    )


def compile_blocks(backbone: nn.Module) -> int:
    """Number of blocks of the backbone's networks that are compiled when they are next called.

    Blocks are what stands in lists of modules of one class, such as the layers of a transformer:
    far less to compile than whole networks, and equal blocks are compiled once. Parameters keep
    their names. Random numbers are drawn as without compiling, so that a batch embedded in
    micro-batches meets the same dropout in both of its passes.

    Raises:
        CIRError: If there is no such list, or no C++ compiler.
    """
    from torch._dynamo import config

    compiler = os.environ.get("CXX") or _COMPILERS.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise CIRError(
            f"memory.compile needs a C++ compiler and '{compiler}' is not there; accepted: "
            "memory.compile=false, or the compiler's name in the environment variable CXX"
        )
    blocks = list(_blocks(backbone))
    if not blocks:
        raise CIRError(
            f"backbone {type(backbone).__name__} has no stack of blocks to compile; "
            "accepted: memory.compile=false"
        )
    # Blocks of several networks, in training and not, with and without a text, share one code
    # object; beyond the limit they would quietly run uncompiled.
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
    for block in blocks:
        block.compile(dynamic=True, options={"fallback_random": True})
    return len(blocks)


def _blocks(backbone: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of two or more modules of one class."""
    inside: set[nn.Module] = set()
    for stack in backbone.modules():
        if stack in inside or not isinstance(stack, nn.ModuleList | nn.Sequential):
            continue
        if len(stack) < 2 or len({type(block) for block in stack}) > 1:
            continue
        for block in stack:
            inside.update(block.modules())
            yield block
