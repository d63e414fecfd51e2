"""Sketches of bags: handbag, backpack, wallet."""

from __future__ import annotations

import numpy as np

from garments_plugin.kinds import Garment
from garments_plugin.palette import RGB
from garments_plugin.sketch import Sketch, arc, flipped, limb, mirrored, outline

_METALS: tuple[RGB, ...] = ((196, 192, 184), (206, 176, 104), (120, 118, 116))


def _metal(rng: np.random.Generator) -> RGB:
    return _METALS[int(rng.integers(len(_METALS)))]


def handbag(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A handbag with handles or a shoulder strap."""
    sketch = Sketch(gloss=float(rng.uniform(0.1, 0.8)), weave=0.7)
    half, low = rng.uniform(0.55, 0.8), rng.uniform(0.45, 0.65)
    top = half * rng.uniform(0.7, 1.02)
    rise = rng.uniform(0.35, 0.85)
    reach = top * rng.uniform(0.4, 0.75)
    loop = [(float(x), float(y)) for x, y in arc((0.0, -0.3), (reach, rise), np.pi, 2 * np.pi, 14)]
    sketch.trim(limb([(x + 0.04, y - 0.04) for x, y in loop], [0.07] * 14), 0.6)
    body = [(top, -0.32, 0.03), (half, low - 0.1, 0.15), (half * 0.85, low), (0.0, low + 0.03)]
    sketch.cloth(mirrored(body, 0.02))
    sketch.trim(limb(loop, [0.075] * 14), 0.85)
    metal = _metal(rng)
    for side in (-1, 1):
        sketch.fill(arc((side * reach, -0.27), (0.05, 0.06), steps=10), metal)
    style = int(rng.integers(3))
    if style == 0:
        flap = [(top * 0.98, -0.33), (half * 0.9, 0.05, 0.1), (half * 0.5, 0.18), (0.0, 0.2)]
        sketch.trim(mirrored(flap), 0.93)
        sketch.fill(arc((0.0, 0.14), (0.07, 0.05), steps=10), metal)
    elif style == 1:
        sketch.fill(limb([(-top * 0.95, -0.26), (top * 0.95, -0.26)], (0.03, 0.03)), metal, -0.4)
        pocket = [(half * 0.6, 0.05), (half * 0.62, low - 0.12, 0.1), (0.0, low - 0.08)]
        sketch.cloth(mirrored(pocket), tone=0.94, edge=-0.4)
    else:
        for x in (-0.45, 0.45):
            sketch.trim(limb([(x * half, -0.3), (x * half, low)], (0.1, 0.1)), 0.75)
    for _ in range(3):
        a = (rng.uniform(-half, half) * 0.8, -0.2)
        path = outline([a, (a[0] + rng.uniform(-0.15, 0.15), low * 0.7)], closed=False)
        sketch.crease(path, 0.09, rng.choice((-0.22, 0.2)))
    return sketch


def backpack(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A backpack: rounded top, front pocket, zips, straps at the sides."""
    sketch = Sketch(weave=1.0, gloss=float(rng.uniform(0, 0.3)))
    half = rng.uniform(0.5, 0.62)
    sketch.chest = (-half * 0.5, -0.5, half * 0.5, -0.02)
    handle = [(float(x), float(y)) for x, y in arc((0.0, -0.82), (0.14, 0.2), np.pi, 2 * np.pi, 8)]
    sketch.trim(limb(handle, [0.06] * 8), 0.7)
    for side in (-1.0, 1.0):
        points = [(side * half * 0.75, -0.5), (side * (half + 0.13), 0.0), (side * half * 0.9, 0.6)]
        sketch.trim(limb(points, (0.1, 0.14, 0.08)), 0.62)
    body = [(half * 0.5, -0.88, 0.12), (half * 0.97, -0.55, 0.03), (half * 1.03, 0.5, 0.12)]
    sketch.cloth(mirrored([*body, (half * 0.85, 0.8), (0.0, 0.82)], 0.05))
    zip_line = outline([(-half * 0.88, -0.35, 0.22), (half * 0.88, -0.35)], closed=False)
    sketch.line(zip_line - np.array([0.0, 0.12]), 0.03, -0.45)
    pocket = [(half * 0.7, 0.05, 0.06), (half * 0.76, 0.58, 0.12), (half * 0.6, 0.7), (0.0, 0.71)]
    sketch.trim(mirrored(pocket, 0.06), float(rng.choice((0.82, 0.92, 1.15))))
    sketch.line(
        outline([(-half * 0.62, 0.16, 0.03), (half * 0.62, 0.16)], closed=False), 0.03, -0.4
    )
    sketch.fill(limb([(half * 0.5, 0.15), (half * 0.52, 0.26)], (0.03, 0.035)), _metal(rng))
    for side in (-1, 1):
        path = outline([(side * half * 0.8, -0.4), (side * half * 0.85, 0.6)], closed=False)
        sketch.line(path, 0.02, -0.22)
    return sketch


def wallet(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A closed wallet or purse."""
    sketch = Sketch(gloss=float(rng.uniform(0.2, 0.8)), weave=0.6)
    half, tall = rng.uniform(0.62, 0.95), rng.uniform(0.38, 0.55)
    shape = mirrored(
        [(half * 0.97, -tall, 0.04), (half, tall * 0.9, 0.1), (half * 0.94, tall), (0.0, tall)]
    )
    sketch.trim(shape + np.array([0.025, 0.03]), 0.55)
    sketch.cloth(shape)
    frame = mirrored([(half * 0.9, -tall * 0.88), (half * 0.91, tall * 0.84), (0.0, tall * 0.85)])
    sketch.line(np.concatenate([frame, frame[:1]]), 0.014, -0.28)
    style = int(rng.integers(3))
    if style == 0:
        flap = [(half, -tall), (half * 1.0, 0.02, 0.08), (half * 0.6, 0.16), (0.0, 0.18)]
        sketch.trim(mirrored(flap), 0.94, -0.4)
        sketch.fill(arc((0.0, 0.12), (0.06, 0.06), steps=10), _metal(rng))
    elif style == 1:
        sketch.line(outline([(-half, 0.0), (half, 0.0)], closed=False), 0.022, -0.35)
        sketch.line(outline([(-half, 0.025), (half, 0.025)], closed=False), 0.012, 0.18)
    else:
        strap = outline(
            [
                (half * 0.55, -0.09),
                (half * 1.04, -0.09),
                (half * 1.04, 0.09),
                (half * 0.55, 0.09, 0.3),
            ]
        )
        sketch.trim(strap, 0.85, -0.4)
        sketch.fill(arc((half * 0.64, 0.0), (0.045, 0.045), steps=10), _metal(rng))
    if rng.random() < 0.4:
        x = -half * 0.6
        mark = outline(
            [(x, tall * 0.45), (x + 0.3, tall * 0.45), (x + 0.3, tall * 0.6), (x, tall * 0.6)]
        )
        sketch.trim(mark, 0.7, 0.0)
    sketch.crease(
        flipped(outline([(-half * 0.7, -tall * 0.5), (half * 0.4, -tall * 0.7)], closed=False)),
        0.12,
        0.2,
    )
    return sketch
