"""Sketches of hats, caps, socks, belts and ties."""

from __future__ import annotations

import numpy as np

from garments_plugin.kinds import Garment
from garments_plugin.palette import RGB, accent, scaled
from garments_plugin.sketch import Points, Sketch, arc, flipped, limb, mirrored, moved, outline


def hat(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A hat with a brim all around, or a knitted beanie."""
    if rng.random() < 0.4:
        return _beanie(rng)
    sketch = Sketch(weave=1.3)
    wide, droop = rng.uniform(0.8, 1.0), rng.uniform(0.1, 0.24)
    brim = outline(
        [(-wide, 0.2, 0.06), (0.0, 0.06, 0.06), (wide, 0.2, 0.1), (0.0, 0.3 + droop, 0.1)]
    )
    sketch.cloth(brim)
    crown = rng.uniform(0.42, 0.55)
    tall = rng.uniform(0.45, 0.65)
    shape = [
        (crown * 0.6, 0.1 - tall, 0.14),
        (crown * 0.94, 0.0, 0.02),
        (crown, 0.24, 0.0),
        (0.0, 0.31),
    ]
    sketch.cloth(mirrored(shape, 0.1))
    band = mirrored([(crown * 0.98, 0.1), (crown, 0.24, 0.0), (0.0, 0.31)], -0.06)
    if rng.random() < 0.6:
        colour = accent(garment.shade, rng)
        sketch.fill(band, colour) if rng.random() < 0.5 else sketch.trim(band, 0.6)
    else:
        sketch.line(band, 0.016, -0.3)
    if rng.random() < 0.4:
        dent = outline(
            [(-crown * 0.3, 0.12 - tall), (0.0, 0.2 - tall, 0.1), (crown * 0.3, 0.12 - tall)],
            closed=False,
        )
        sketch.crease(dent, 0.08, -0.35)
    return sketch


def _beanie(rng: np.random.Generator) -> Sketch:
    sketch = Sketch(weave=2.2)
    tall = rng.uniform(0.75, 1.0)
    sketch.cloth(mirrored([(0.25, -tall, 0.16), (0.68, -0.3, 0.08), (0.7, 0.3), (0.0, 0.34)], 0.08))
    for x in np.linspace(-0.6, 0.6, int(rng.integers(9, 14))):
        path = outline([(x * 0.35, -tall + 0.04, x * 0.15), (x, 0.1)], closed=False)
        sketch.line(path, 0.02, -0.16)
    cuff = mirrored([(0.72, -0.08, 0.02), (0.73, 0.34), (0.0, 0.38)], -0.03)
    sketch.trim(cuff, 0.9)
    for x in np.linspace(-0.68, 0.68, 18):
        sketch.line(np.array([[x, -0.05], [x, 0.35]]), 0.016, -0.16)
    if rng.random() < 0.35:
        sketch.trim(arc((0.0, -tall - 0.08), (0.17, 0.17)), 1.2)
    return sketch


def cap(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A baseball cap: panels, a button, a visor in front or to the side."""
    sketch = Sketch(weave=1.1)
    if rng.random() < 0.5:
        crown = outline(
            [
                (-0.75, 0.2, 0.06),
                (-0.6, -0.4, 0.2),
                (0.1, -0.62, 0.14),
                (0.5, -0.1, 0.04),
                (0.52, 0.2, -0.05),
            ]
        )
        sketch.cloth(crown)
        visor = outline(
            [
                (0.1, 0.12, 0.12),
                (0.56, 0.06, 0.08),
                (1.1, 0.3, 0.2),
                (0.95, 0.38, -0.08),
                (0.12, 0.27, 0.02),
            ]
        )
        sketch.trim(visor, rng.choice((0.78, 0.9)))
        for x, bulge in ((-0.3, -0.14), (0.2, 0.1)):
            path = outline([(-0.1, -0.6, bulge), (x, 0.18)], closed=False)
            sketch.line(path, 0.016, -0.28)
        sketch.fill(arc((-0.1, -0.61), (0.05, 0.03), steps=8), scaled(garment.shade, 0.8))
        sketch.chest = (0.1, -0.3, 0.42, 0.02)
        return sketch
    crown = mirrored([(0.25, -0.62, 0.16), (0.62, -0.1, 0.05), (0.62, 0.2), (0.0, 0.12)], 0.08)
    sketch.cloth(crown)
    for x, bulge in ((-0.36, -0.12), (0.36, 0.12)):
        sketch.line(outline([(0.0, -0.66, bulge), (x, 0.14)], closed=False), 0.016, -0.28)
    sketch.line(outline([(0.0, -0.66), (0.0, 0.12)], closed=False), 0.014, -0.22)
    visor = mirrored([(0.62, 0.12, 0.12), (0.72, 0.4, 0.16), (0.4, 0.55, 0.02), (0.0, 0.5)], 0.1)
    sketch.trim(visor, rng.choice((0.75, 0.88)))
    sketch.fill(arc((0.0, -0.66), (0.05, 0.03), steps=8), scaled(garment.shade, 0.8))
    sketch.chest = (-0.2, -0.34, 0.2, 0.0)
    return sketch


def socks(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A pair of socks laid side by side."""
    sketch = Sketch(weave=1.8)
    high = -rng.uniform(0.35, 1.1)
    one = outline(
        [
            (-0.24, high),
            (0.2, high, -0.02),
            (0.22, 0.1, -0.16),
            (0.55, 0.42, 0.12),
            (0.72, 0.66, 0.25),
            (0.3, 0.78, 0.04),
            (-0.22, 0.5, 0.18),
            (-0.24, 0.1),
        ]
    )
    tone = rng.choice((0.75, 0.9, 1.25))
    gap, turn = rng.uniform(0.3, 0.5), rng.uniform(-0.05, 0.12)
    toes = accent(garment.shade, rng) if rng.random() < 0.3 else None
    for side in (1, -1):
        mirror = side < 0 and rng.random() < 0.5
        place = (side * gap, side * 0.04, side * turn)

        def put(
            points: Points, place: tuple[float, float, float] = place, mirror: bool = mirror
        ) -> Points:
            return moved(flipped(points) if mirror else points, *place)

        sketch.cloth(put(one))
        rim = outline([(-0.25, high), (0.21, high), (0.21, high + 0.14), (-0.25, high + 0.14)])
        sketch.trim(put(rim), tone)
        toe = outline([(0.5, 0.4, 0.12), (0.72, 0.66, 0.25), (0.36, 0.78, -0.1)])
        heel = outline([(-0.24, 0.14), (-0.02, 0.32, 0.1), (-0.08, 0.58, 0.0), (-0.22, 0.5, 0.14)])
        for patch in (toe, heel):
            if toes:
                sketch.fill(put(patch), toes, edge=-0.12)
            else:
                sketch.trim(put(patch), 0.88, -0.12)
        for x in np.linspace(-0.2, 0.16, 6):
            sketch.line(put(np.array([[x, high], [x, high + 0.14]])), 0.016, -0.18)
        sketch.crease(put(outline([(-0.2, 0.2), (0.2, 0.1)], closed=False)), 0.05, -0.25)
    return sketch


def belt(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A belt: rolled up in a ring, looped, or laid out straight."""
    sketch = Sketch(gloss=float(rng.uniform(0.2, 0.9)), weave=0.6)
    metal = (190, 186, 180) if rng.random() < 0.7 else (198, 166, 96)
    width = rng.uniform(0.17, 0.25)
    if rng.random() < 0.7:
        tall = rng.uniform(0.22, 0.5)
        ring = arc((0.0, 0.0), (0.9, tall), 0.0, 2 * np.pi, 32)
        back, front = ring[16:], ring[:17]
        for points, tone in ((back, 0.6), (front, 1.0)):
            lower = points + np.array([0.0, width])
            band = np.concatenate([points, lower[::-1]])
            sketch.cloth(band, tone=tone)
            middle = points + np.array([0.0, width * 0.12])
            sketch.line(middle, 0.012, -0.25)
            sketch.line(points + np.array([0.0, width * 0.88]), 0.012, -0.25)
        x, y = rng.uniform(-0.25, 0.25), tall
    else:
        sketch.cloth(
            outline(
                [(-1.0, 0.0), (0.9, 0.0, 0.1), (0.97, width / 2, 0.1), (0.9, width), (-1.0, width)]
            )
        )
        x, y = -0.94, 0.0
        for k in range(5):
            dot = arc((0.4 + 0.1 * k, width / 2), (0.015, 0.015), steps=6)
            sketch.fill(dot, (30, 26, 24), edge=0.0)
    _buckle(sketch, x, y, width, metal)
    return sketch


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _buckle(sketch: Sketch, x: float, y: float, width: float, metal: RGB) -> None:
    w = width * 0.62
    sketch.fill(_box(x - w, y - 0.05, x + w, y + width + 0.05), metal, edge=-0.4)
    sketch.trim(_box(x - w * 0.6, y, x + w * 0.6, y + width), 0.8)
    sketch.fill(limb([(x - w, y + width / 2), (x + w * 0.8, y + width / 2)], (0.04, 0.03)), metal)
    # The keeper; a belt laid out straight has its buckle at the end and no room for one.
    if abs(x) < 0.3:
        sketch.trim(_box(x + w * 1.6, y - 0.015, x + w * 2.2, y + width + 0.015), 0.75)


def tie(garment: Garment, rng: np.random.Generator) -> Sketch:
    """A necktie: tied with a knot, or laid out."""
    sketch = Sketch(gloss=0.4, weave=0.7)
    slant = float(rng.choice((0.0, 0.7, -0.7)))
    wide = rng.uniform(0.13, 0.2)
    if rng.random() < 0.45:
        loop = [
            (float(x), float(y))
            for x, y in arc((0.0, -0.98), (0.2, 0.3), 0.7 * np.pi, 2.3 * np.pi, 14)
        ]
        sketch.cloth(limb(loop, [0.09] * 14), turn=slant, tone=0.85)
    if rng.random() < 0.5:
        tail = [(0.03, -0.7), (0.1, -0.7), (0.18, 0.65), (0.12, 0.74), (0.05, 0.65)]
        sketch.cloth(outline(tail), turn=slant, tone=0.7)
    blade = mirrored([(0.05, -0.66, 0.0), (wide, 0.8, 0.0), (0.0, 1.0)])
    sketch.cloth(blade, turn=slant)
    sketch.cloth(mirrored([(0.12, -0.84, 0.0), (0.06, -0.62), (0.0, -0.61)]), turn=-slant, tone=0.9)
    sketch.crease(outline([(-0.04, -0.55), (-0.02, -0.3)], closed=False), 0.04, -0.4)
    sketch.crease(outline([(0.0, -0.4), (0.0, 0.85)], closed=False), 0.08, 0.14)
    return sketch
