"""Perceptual hashes of pictures: alike pictures differ in few of 64 bits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cir_plugins.data.images import open_image
from cir_plugins.errors import CIRError

Hashes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"
BITS = 64


def perceptual_hashes(paths: Iterable[Path], without: str) -> Hashes:
    """Hashes (n,) uint64 of picture files.

    Args:
        paths: The files.
        without: The option that does without, for the message where the library is missing.

    Raises:
        CIRError: If imagehash is not installed, or a picture cannot be read.

    Source: pHash of the library ``imagehash``.
    """
    try:
        import imagehash
    except ImportError as error:
        raise CIRError(
            "near-duplicates by perceptual hash need imagehash; install it with: pip install "
            f"'cir-plugins[duplicates]'\nwithout it: {without}"
        ) from error
    codes = []
    for path in paths:
        bits = imagehash.phash(open_image(path)).hash.flatten()
        codes.append(int("".join("1" if bit else "0" for bit in bits), 2))
    return np.array(codes, dtype=np.uint64)
