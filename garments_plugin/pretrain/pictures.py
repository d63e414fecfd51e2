"""Drawn pictures in memory, and their random augmentation."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins import Preprocess, follow_parent
from garments_plugin import Garment, draw_garment, sample_garment

DRAWN = 72  # a little larger than the model's input, for shifts and scales
ATTRIBUTES = ("garment", "colour", "pattern", "sleeve", "length")


@dataclass(frozen=True)
class Drawn:
    """Drawn pictures (n, DRAWN, DRAWN, 3) uint8 in memory, with their attributes."""

    pixels: Tensor
    looks: tuple[tuple[str, ...], ...]  # per picture one value for each of ATTRIBUTES, "" for none


def _draw_batch(task: tuple[int, int, int]) -> tuple[np.ndarray[Any, Any], list[Garment]]:
    seed, first, last = task
    pixels = np.empty((last - first, DRAWN, DRAWN, 3), dtype=np.uint8)
    garments = []
    for index in range(first, last):
        rng = np.random.default_rng([seed, index])
        garment = sample_garment(rng)
        pixels[index - first] = np.asarray(draw_garment(garment, rng, DRAWN))
        garments.append(garment)
    return pixels, garments


def draw(images: int, seed: int, workers: int) -> Drawn:
    """Pictures of ``images`` random garments, reproducible by seed."""
    step = 250
    tasks = [(seed, first, min(first + step, images)) for first in range(0, images, step)]
    with ProcessPoolExecutor(workers, initializer=follow_parent) as executor:
        batches = list(tqdm(executor.map(_draw_batch, tasks), total=len(tasks), desc="drawing"))
    looks = tuple(
        tuple(getattr(garment, name) or "" for name in ATTRIBUTES)
        for _, garments in batches
        for garment in garments
    )
    return Drawn(torch.from_numpy(np.concatenate([pixels for pixels, _ in batches])), looks)


def vary(pixels: Tensor, preprocess: Preprocess, rng: torch.Generator) -> Tensor:
    """Normalised pictures (n, 3, side, side): flipped, shifted, scaled, turned and re-lit."""
    n = pixels.shape[0]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng)

    mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std).view(1, 3, 1, 1)
    images = pixels.permute(0, 3, 1, 2).float() / 255
    angle, scale = uniform(-0.2, 0.2, n), uniform(0.8, 1.1, n)
    flip = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    rotation = torch.stack([angle.cos() * flip, -angle.sin(), angle.sin() * flip, angle.cos()], 1)
    theta = torch.empty(n, 2, 3)
    theta[:, :, :2] = rotation.view(n, 2, 2) * scale.view(n, 1, 1)
    theta[:, :, 2] = uniform(-0.1, 0.1, n, 2)
    grid = torch.nn.functional.affine_grid(
        theta, [n, 3, preprocess.size, preprocess.size], align_corners=False
    )
    images = torch.nn.functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )
    light, contrast = uniform(0.75, 1.2, n, 1, 1, 1), uniform(0.8, 1.2, n, 1, 1, 1)
    cast = uniform(0.93, 1.07, n, 3, 1, 1)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (((images - middle) * contrast + middle) * light * cast).clamp(0, 1)
    return (images - mean) / std
