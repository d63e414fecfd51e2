"""Sketches of shoes: pairs seen from above, single shoes seen from the side."""

from __future__ import annotations

import numpy as np

from garments_plugin.kinds import Garment
from garments_plugin.palette import RGB, accent, luminance, scaled
from garments_plugin.sketch import Mark, Points, Sketch, Vertex, arc, flipped, limb, moved, outline

_SOLE: list[Vertex] = [
    (-0.02, -1.0, 0.2),
    (0.3, -0.62, 0.06),
    (0.24, 0.1, 0.0),
    (0.26, 0.72, 0.25),
    (-0.2, 0.76, 0.1),
    (-0.22, 0.1, -0.06),
    (-0.3, -0.5, 0.2),
]


def _pair(one: Sketch, rng: np.random.Generator, gap: float = 0.36) -> Sketch:
    """The sketch of a right shoe seen from above together with its left twin."""
    both = Sketch(gloss=one.gloss, weave=one.weave)
    apart = gap + rng.uniform(0.0, 0.14)
    for side in (1.0, -1.0):
        turn = rng.normal(0.0, 0.09)
        dx, dy = side * apart, rng.normal(0.0, 0.06)
        for mark in one.marks:
            raw = flipped(mark.points) if side < 0 else mark.points
            both.marks.append(_with(mark, moved(raw, dx, dy, turn)))
    return both


def _with(mark: Mark, points: Points) -> Mark:
    return Mark(mark.layer, points, mark.colour, mark.tone, mark.turn, mark.width, mark.edge)


def _sole_colour(garment: Garment, rng: np.random.Generator) -> RGB:
    if rng.random() < 0.6:
        return (226, 224, 218) if luminance(garment.shade) < 170 else (202, 198, 190)
    return (46, 44, 44) if rng.random() < 0.5 else (168, 126, 84)


def _laces(sketch: Sketch, colour: RGB, rows: Points) -> None:
    for left, y, right, lower in rows:
        sketch.fill(limb([(left, y), (right, lower)], (0.035, 0.035)), colour, edge=-0.3)


def shoes(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Trainers or casual shoes, laced, with a rubber sole."""
    if studio or rng.random() < 0.2:
        return _trainer_side(garment, rng)
    one = Sketch()
    sole = _sole_colour(garment, rng)
    one.fill(moved(outline(_SOLE), 0, 0, scale=1.05), sole)
    one.cloth(outline(_SOLE))
    toe = [(-0.24, -0.62, -0.12), (0.25, -0.66)]
    one.line(outline(toe, closed=False), 0.02, -0.3)
    tongue = [(-0.12, -0.42, 0.1), (0.12, -0.42), (0.13, 0.22), (-0.13, 0.22)]
    one.trim(outline(tongue), 0.8)
    opening = [(-0.15, 0.12, 0.2), (0.15, 0.12, 0.1), (0.14, 0.6, 0.3), (-0.13, 0.62, 0.1)]
    one.fill(outline(opening), scaled(garment.shade, 0.35) if rng.random() < 0.6 else (88, 84, 80))
    lace = (232, 230, 226) if rng.random() < 0.6 else accent(garment.shade, rng)
    rows = np.array([[-0.14, y, 0.14, y + 0.03] for y in (-0.36, -0.24, -0.12, 0.0)])
    _laces(one, lace, rows)
    if rng.random() < 0.5:
        stripe = accent(garment.shade, rng)
        for x in (-0.23, 0.2):
            one.fill(limb([(x, -0.3), (x + 0.04, 0.1)], (0.05, 0.04)), stripe)
    one.crease(outline([(-0.2, -0.5, 0.1), (0.2, -0.55)], closed=False), 0.08, 0.2)
    one.gloss = rng.uniform(0.0, 0.4)
    return _pair(one, rng)


def _trainer_side(garment: Garment, rng: np.random.Generator) -> Sketch:
    sketch = Sketch(gloss=float(rng.uniform(0, 0.4)))
    high = rng.uniform(-0.52, -0.4)
    upper = outline(
        [
            (-0.92, 0.2, 0.0),
            (-0.95, high + 0.1, 0.1),
            (-0.62, high, -0.12),
            (-0.3, high + 0.03, 0.02),
            (0.3, -0.1, 0.16),
            (0.98, 0.12, 0.2),
            (0.95, 0.25),
        ]
    )
    sketch.cloth(upper)
    inside = outline(
        [(-0.88, high + 0.08, 0.06), (-0.62, high + 0.02, -0.1), (-0.32, high + 0.05, -0.1)]
    )
    sketch.fill(inside, scaled(garment.shade, 0.4))
    toe = outline([(0.62, -0.02, 0.15), (0.97, 0.14, 0.1), (0.95, 0.26), (0.52, 0.26, -0.2)])
    sketch.trim(toe, rng.choice((0.9, 1.15, 0.7)))
    heel = outline([(-0.93, 0.24), (-0.94, -0.1), (-0.72, -0.05, -0.1), (-0.62, 0.24)])
    sketch.trim(heel, 0.85)
    lace = (232, 230, 226) if rng.random() < 0.6 else accent(garment.shade, rng)
    for k in range(4):
        x, y = -0.2 + 0.14 * k, high + 0.1 + 0.075 * k
        sketch.fill(
            limb([(x - 0.06, y + 0.1), (x + 0.06, y - 0.03)], (0.04, 0.04)), lace, edge=-0.3
        )
    if rng.random() < 0.6:
        colour = accent(garment.shade, rng)
        for k in range(int(rng.integers(1, 4))):
            x = -0.36 + 0.16 * k
            sketch.fill(limb([(x + 0.12, -0.14), (x, 0.22)], (0.06, 0.07)), colour)
    sole = [(-0.97, 0.2, 0.0), (0.98, 0.22, 0.1), (0.92, 0.38, 0.0), (-0.95, 0.38, 0.1)]
    sketch.fill(outline(sole), _sole_colour(garment, rng))
    sketch.line(outline([(-0.95, 0.3), (0.95, 0.31)], closed=False), 0.02, -0.2)
    return sketch


def formal_shoes(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Polished leather shoes."""
    if studio or rng.random() < 0.35:
        sketch = Sketch(gloss=0.9, weave=0.3)
        upper = outline(
            [
                (-0.93, 0.22),
                (-0.96, -0.28, 0.06),
                (-0.5, -0.36, -0.1),
                (-0.16, -0.34, -0.03),
                (0.42, -0.02, 0.1),
                (1.05, 0.16, 0.2),
                (1.04, 0.24),
            ]
        )
        sketch.cloth(upper)
        collar = [(-0.9, -0.26, 0.05), (-0.5, -0.34, -0.08), (-0.2, -0.32, -0.12)]
        sketch.fill(outline(collar), (98, 74, 56))
        sketch.line(outline([(0.3, -0.05, -0.1), (0.42, 0.22)], closed=False), 0.022, -0.4)
        sketch.line(outline([(-0.3, -0.2, -0.15), (-0.1, 0.2)], closed=False), 0.022, -0.35)
        sketch.crease(outline([(0.5, 0.04, 0.1), (0.9, 0.14)], closed=False), 0.07, 0.4)
        for k in range(3):
            x, y = -0.12 + 0.13 * k, -0.27 + 0.08 * k
            sketch.line(np.array([[x - 0.05, y + 0.08], [x + 0.05, y]]), 0.024, -0.5)
        sole = [(-0.96, 0.22), (1.05, 0.23), (1.0, 0.31), (-0.46, 0.3), (-0.5, 0.4), (-0.95, 0.4)]
        sketch.fill(outline(sole), (34, 28, 26))
        return sketch
    one = Sketch(gloss=0.9, weave=0.3)
    one.fill(moved(outline(_SOLE), 0, 0, scale=1.04), (34, 28, 26))
    narrow = outline(_SOLE) * np.array([0.94, 1.0])
    one.cloth(narrow)
    one.line(outline([(-0.24, -0.55, -0.1), (0.25, -0.58)], closed=False), 0.02, -0.4)
    one.crease(outline([(-0.1, -0.9), (0.12, -0.7)], closed=False), 0.1, 0.45)
    opening = outline([(-0.14, 0.1, 0.3), (0.14, 0.1, 0.1), (0.14, 0.62, 0.3), (-0.13, 0.64, 0.1)])
    one.fill(opening, (98, 74, 56))
    for y in (-0.28, -0.16, -0.04):
        one.line(np.array([[-0.1, y], [0.1, y + 0.02]]), 0.03, -0.5)
    return _pair(one, rng)


def sandals(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Open shoes with straps over a sole."""
    insole = (182, 146, 108) if rng.random() < 0.5 else (70, 62, 58)
    if studio or rng.random() < 0.2:
        return _sandal_side(rng, scaled(insole, 0.7))
    one = Sketch()
    one.fill(outline(_SOLE), insole)
    width = rng.uniform(0.14, 0.26)
    one.cloth(limb([(-0.33, -0.35), (0.0, -0.5), (0.32, -0.42)], (width,) * 3))
    if rng.random() < 0.6:
        one.cloth(limb([(-0.28, -0.05), (0.0, -0.14), (0.28, -0.08)], (width * 0.9,) * 3))
    one.cloth(limb([(-0.26, 0.25), (0.0, 0.1), (0.28, 0.22)], (0.13, 0.13, 0.13)))
    one.cloth(
        limb([(-0.25, 0.3), (-0.22, 0.7), (0.0, 0.86), (0.24, 0.66), (0.27, 0.25)], (0.1,) * 5)
    )
    one.fill(arc((0.26, 0.2), (0.05, 0.05), steps=8), (186, 180, 160))
    return _pair(one, rng)


def _sandal_side(rng: np.random.Generator, sole: RGB) -> Sketch:
    sketch = Sketch(gloss=0.2)
    high = rng.uniform(-0.5, -0.3)
    back = [(-0.86, 0.12, 0.02), (-0.84, high, 0.2), (-0.5, high + 0.05, 0.15), (-0.25, 0.2)]
    ankle = [(-0.84, high + 0.12, -0.12), (-0.28, high + 0.14)]
    front = [(0.1, 0.2, 0.3), (0.52, -0.1, 0.2), (0.82, 0.2)]
    middle = [(-0.22, 0.2, 0.3), (0.14, -0.22, 0.15), (0.36, 0.16)]
    for path, width in ((back, 0.15), (ankle, 0.14), (middle, 0.17), (front, 0.22)):
        if path is middle and rng.random() < 0.3:
            continue
        line = outline(path, closed=False)
        points = [(float(x), float(y)) for x, y in line]
        sketch.cloth(limb(points, [width] * len(points)))
    base = [(-0.97, 0.12, 0.03), (-0.3, 0.2, 0.0), (1.0, 0.14, 0.1), (0.95, 0.3)]
    sketch.fill(outline([*base, (-0.95, 0.34, 0.1)]), sole)
    sketch.line(outline([(-0.95, 0.2), (0.97, 0.22)], closed=False), 0.02, -0.25)
    return sketch


def flip_flops(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Rubber sandals: a flat sole with a forked strap, or slides with one band."""
    one = Sketch(weave=0.5)
    one.trim(moved(outline(_SOLE), 0.0, 0.03, scale=1.03), 0.6)
    one.cloth(outline(_SOLE), tone=float(rng.choice((0.85, 1.0, 1.12))))
    if rng.random() < 0.3:
        colour = accent(garment.shade, rng)
        one.fill(limb([(-0.22, 0.42), (0.24, 0.4)], (0.12, 0.12)), colour, edge=0.0)
    if rng.random() < 0.35:
        one.cloth(limb([(-0.34, -0.3), (0.0, -0.46), (0.34, -0.36)], (0.42, 0.42, 0.42)), tone=1.06)
        return _pair(one, rng)
    tone = float(rng.choice((0.7, 0.9, 1.25)))
    for x in (-0.2, 0.21):
        path = [(0.0, -0.62), (x * 0.9, -0.36), (x, -0.02)]
        one.trim(limb(path, (0.07, 0.11, 0.06)), tone, -0.4)
    return _pair(one, rng, gap=0.36 if not studio else 0.34)


def heels(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Shoes with a raised heel."""
    if not studio and rng.random() < 0.5:
        one = Sketch(gloss=0.6, weave=0.4)
        slim = np.array([0.86, 1.0])
        one.cloth(outline(_SOLE) * slim)
        opening = outline(
            [(-0.17, -0.42, 0.4), (0.17, -0.42, 0.05), (0.17, 0.6, 0.3), (-0.15, 0.6, 0.05)]
        )
        one.fill(opening, (196, 164, 132))
        one.crease(outline([(-0.1, -0.85), (0.12, -0.65)], closed=False), 0.1, 0.4)
        return _pair(one, rng)
    sketch = Sketch(gloss=0.6, weave=0.4)
    heel = rng.uniform(0.05, 0.15)
    sketch.trim(outline([(-0.92, -0.2), (-0.55, -0.1), (-0.78 + heel, 0.62), (-0.86, 0.62)]), 0.7)
    body = [(-0.97, -0.55, 0.0), (-0.62, -0.36, -0.22), (0.2, 0.12, -0.16), (0.52, 0.18, 0.12)]
    tip: list[Vertex] = [
        (1.02, 0.54, 0.1),
        (0.96, 0.62),
        (0.3, 0.6, 0.14),
        (-0.5, -0.06, 0.06),
        (-0.95, -0.14, 0.08),
    ]
    sketch.cloth(outline([*body, *tip]))
    sketch.fill(limb([(0.3, 0.6), (0.98, 0.63)], (0.04, 0.06)), (40, 32, 30))
    if rng.random() < 0.5:
        strap = [(-0.9, -0.5), (-0.55, -0.62), (-0.3, -0.2)]
        sketch.cloth(limb(strap, (0.07, 0.07, 0.07)))
    sketch.crease(outline([(0.3, 0.3, 0.1), (0.85, 0.5)], closed=False), 0.07, 0.35)
    return sketch


def boots(garment: Garment, rng: np.random.Generator, *, studio: bool) -> Sketch:
    """Boots that cover the ankle."""
    high = -rng.uniform(0.55, 1.2)
    one = Sketch(gloss=0.5, weave=0.5)
    leg = [(-0.55, high, 0.0), (0.12, high, -0.04), (0.16, 0.0, -0.1), (0.42, 0.2, 0.2)]
    foot: list[Vertex] = [(0.86, 0.45, 0.15), (0.86, 0.56), (-0.58, 0.56, 0.04), (-0.56, 0.1)]
    one.cloth(outline([*leg, *foot]))
    rim = outline(
        [(-0.57, high - 0.02), (0.13, high - 0.02), (0.13, high + 0.1), (-0.56, high + 0.1)]
    )
    one.trim(rim, 0.75)
    sole = [(-0.6, 0.54), (0.88, 0.54), (0.86, 0.64), (-0.1, 0.64), (-0.14, 0.72), (-0.6, 0.72)]
    one.fill(outline(sole), (44, 36, 32))
    if rng.random() < 0.6:
        for y in np.arange(max(high, -0.7) + 0.15, 0.15, 0.13):
            one.fill(limb([(0.0, y), (0.22, y + 0.05)], (0.04, 0.04)), (214, 204, 184), edge=-0.3)
    for y in (-0.02, 0.08):
        one.crease(outline([(-0.4, y), (0.2, y + 0.1)], closed=False), 0.05, -0.3)
    if studio or rng.random() < 0.4:
        return one
    back = Sketch(gloss=one.gloss, weave=one.weave)
    dx, dy = rng.uniform(0.25, 0.55), rng.uniform(-0.22, -0.08)
    back.marks = [_with(mark, moved(mark.points, dx, dy)) for mark in one.marks] + one.marks
    return back
