"""Fingerprints of what features depend on: weights, architecture, options, transform, files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_PROBE_SIZES = ((53, 37), (37, 53))  # of the pictures that stand for what a transform does
# Parts of the names of attributes that change no feature.
_IRRELEVANT = ("training", "checkpointing", "name_or_path")


def constant_tensors(backbone: Any) -> list[tuple[str, Tensor]]:
    """Names and tensors that a backbone's features may depend on.

    Where features are frozen: everything that is not trained, without the running statistics of
    what is. Otherwise everything.
    """
    frozen = backbone.frozen_features
    tensors = [(n, p) for n, p in backbone.named_parameters() if not (frozen and p.requires_grad)]
    for prefix, module in backbone.named_modules():
        trained = any(p.requires_grad for p in module.parameters(recurse=False))
        if not (frozen and trained):
            buffers = module.named_buffers(recurse=False)
            tensors += [(f"{prefix}.{name}", value) for name, value in buffers]
    return tensors


def plain_options(module: nn.Module) -> dict[str, Any]:
    """Plain attributes of a module and those inside it, dotted name -> value.

    Numbers, words, dtypes and lists of them, such as options that a module keeps: what stands
    neither in the weights nor in ``repr``. Private ones are left out; so are paths, which differ
    between machines, and how a module is trained.
    """
    return {
        f"{prefix}.{name}".lstrip("."): value
        for prefix, inner in module.named_modules()
        for name, value in sorted(vars(inner).items())
        if _is_plain(value)
        and not name.startswith("_")
        and not any(word in name for word in _IRRELEVANT)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return "/" not in value and "\\" not in value
    return isinstance(value, (bool, int, float, torch.dtype))


def backbone_fingerprint(backbone: Any, tensors: Sequence[tuple[str, Tensor]], extra: str) -> str:
    """Hash of weights, architecture, options and transform.

    What a transform makes of two pictures stands for it, since a function has no description.
    """
    digest = new_digest()
    tree = re.sub(r" at 0x[0-9a-f]+", "", repr(backbone))
    transform = re.sub(r" at 0x[0-9a-f]+", "", repr(backbone.preprocess))
    description = (type(backbone).__qualname__, tree, plain_options(backbone), transform, extra)
    digest.update("\n".join(map(str, description)).encode())
    for picture in probe_pictures():
        digest.update(tensor_bytes(backbone.preprocess(picture)))
    for name, value in tensors:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(tensor_bytes(value))
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def new_digest() -> hashlib.blake2b:
    """A fresh hash of 16 bytes."""
    return hashlib.blake2b(digest_size=16)


def tensor_bytes(value: Tensor) -> Any:
    """The bytes of a tensor as an array (n,), without a copy where it lies in one piece."""
    array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return array.numpy()


def probe_pictures() -> list[Image.Image]:
    """Two small pictures, always the same."""
    pictures = []
    for width, height in _PROBE_SIZES:
        values = np.arange(width * height * 3, dtype=np.int64) * 7919 % 251
        pictures.append(Image.fromarray(values.astype(np.uint8).reshape(height, width, 3)))
    return pictures
