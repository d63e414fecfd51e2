"""Small folders of pictures for the tests of search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import cir_plugins as cir


def draw_pictures(folder: Path, count: int, first: int = 0) -> list[str]:
    """Pictures of noise over a colour, the same for the same number; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        colour = rng.integers(0, 200, 3)
        noise = rng.integers(0, 56, (40, 32, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(folder / f"p{number:03d}.png")
        names.append(f"p{number:03d}.png")
    return names


def sum_retriever(**options: object) -> cir.Retriever:
    """The sum of picture and text on the tiny CLIP, which needs no training."""
    return cir.build(
        "image_text_sum", backbone="tiny_clip", progress=False, device="cpu", **options
    )
