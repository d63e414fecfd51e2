"""The upper body that all tops share: neckline, sleeves, folds, worn or laid out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from garments_plugin.figure import (
    arm_line,
    draw_arm,
    draw_head,
    draw_legs,
    neutral_cloth,
    sample_skin,
)
from garments_plugin.sketch import Points, Sketch, flipped, limb, mirrored, outline

SHOULDER_Y = -0.53


@dataclass(frozen=True)
class Cut:
    """Measures of an upper garment in its own frame (half widths; y down).

    ``sleeve`` is the sleeve's length from the shoulder (0 for none), ``angle`` its direction
    below the horizontal in radians, ``bend`` the turn at the elbow.
    """

    shoulder: float = 0.42
    armpit: float = 0.37
    waist: float = 0.36
    hem: float = 0.38
    bottom: float = 0.62
    neck: float = 0.16
    drop: float = 0.13
    vee: bool = False
    sleeve: float = 0.3
    cuff: float = 0.22
    angle: float = 0.8
    bend: float = 0.0
    worn: bool = False


def sample_cut(
    rng: np.random.Generator, sleeve: str | None, *, worn: bool, loose: float = 1.0
) -> Cut:
    """Random measures for a top with a ``none``, ``short`` or ``long`` sleeve."""
    long_sleeve, bare = sleeve == "long", sleeve in (None, "none")
    narrow = rng.uniform(0.86, 1.06) * loose
    armpit = (0.3 if worn else 0.375) * narrow
    length = rng.uniform(0.92, 1.1) if long_sleeve else rng.uniform(0.24, 0.42)
    if worn:
        angle = rng.uniform(1.22, 1.5)
    else:
        angle = rng.uniform(0.85, 1.42) if long_sleeve else rng.uniform(0.35, 1.05)
    slim = rng.uniform(0.86, 1.02)
    return Cut(
        shoulder=(0.40 if worn else 0.42) * (narrow * 0.4 + 0.6) * (0.72 if bare else 1.0),
        armpit=armpit,
        waist=armpit * slim * (0.98 if worn else 1.0),
        hem=armpit * rng.uniform(0.95, 1.12),
        bottom=rng.uniform(0.5, 0.72),
        neck=rng.uniform(0.15, 0.22) * (1.05 if bare else 1.0),
        drop=rng.uniform(0.1, 0.22) * (1.6 if bare else 1.0),
        vee=rng.random() < 0.28,
        sleeve=0.0 if bare else float(length),
        cuff=(rng.uniform(0.13, 0.16) if long_sleeve else rng.uniform(0.19, 0.24)) * loose,
        angle=float(angle),
        bend=float(rng.uniform(0.0, 0.35) if long_sleeve else 0.0),
        worn=worn,
    )


def sleeve_outline(cut: Cut) -> Points:
    """The closed outline of the right sleeve."""
    tip = np.array([cut.shoulder, SHOULDER_Y])
    pit = np.array([cut.armpit - 0.02, -0.14])
    way = np.array([np.cos(cut.angle), np.sin(cut.angle)])
    after = np.array([np.cos(cut.angle + cut.bend), np.sin(cut.angle + cut.bend)])
    elbow = tip + way * cut.sleeve * 0.5
    outer = elbow + after * cut.sleeve * 0.5
    inward = np.array([-after[1], after[0]])
    inner = outer + inward * cut.cuff
    inner_elbow = elbow + np.array([-way[1], way[0]]) * (cut.cuff * 0.45 + 0.11)
    return outline(
        [
            (tip[0] - 0.12, tip[1] - 0.02),
            (tip[0] - 0.01, tip[1], 0.05),
            (elbow[0], elbow[1]),
            (outer[0], outer[1], 0.02),
            (inner[0], inner[1]),
            (inner_elbow[0], inner_elbow[1], -0.04),
            (pit[0], pit[1]),
            (pit[0] - 0.2, -0.2),
        ]
    )


def cuff_outline(cut: Cut, depth: float = 0.07) -> Points:
    """The closed outline of the band at the end of the right sleeve."""
    way = np.array([np.cos(cut.angle), np.sin(cut.angle)])
    after = np.array([np.cos(cut.angle + cut.bend), np.sin(cut.angle + cut.bend)])
    outer = np.array([cut.shoulder, SHOULDER_Y]) + (way + after) * cut.sleeve * 0.5
    inner = outer + np.array([-after[1], after[0]]) * cut.cuff
    back = after * depth
    return np.array([outer, inner, inner - back, outer - back])


def body_outline(cut: Cut) -> Points:
    """The closed outline of the front, neckline cut out."""
    neck_y = -0.63
    bare = cut.sleeve == 0.0
    return mirrored(
        [
            (0.0, neck_y + cut.drop, 0.02 if cut.vee else -0.24),
            (cut.neck, neck_y, 0.03),
            (cut.shoulder, SHOULDER_Y - 0.02, -0.22 if bare else 0.02),
            (cut.armpit, -0.16, 0.0),
            (cut.waist, 0.2, -0.02),
            (cut.hem, cut.bottom, 0.0),
            (0.0, cut.bottom + 0.02),
        ]
    )


def wear(sketch: Sketch, cut: Cut, rng: np.random.Generator, *, legs: bool = True) -> None:
    """Add the figure behind a worn top and set the visible range of it."""
    skin = sample_skin(rng)
    draw_head(sketch, skin, rng)
    if legs:
        cloth = neutral_cloth(rng)
        draw_legs(sketch, cloth, top=cut.bottom - 0.35, bottom=1.9, half=cut.hem * 0.95)
    start = (cut.shoulder - 0.07, SHOULDER_Y + 0.05)
    for left in (False, True):
        reach = max(1.02, cut.sleeve * 0.98)
        draw_arm(sketch, arm_line(start, cut.angle, cut.bend, reach), skin, left=left)
    low = rng.uniform(0.95, 1.35)
    high = -1.2 if rng.random() < 0.7 else -0.85
    sketch.extent = (-0.72, high, 0.72, max(low, cut.bottom + 0.15))


def draw_top(
    sketch: Sketch, cut: Cut, rng: np.random.Generator, *, tone: float = 1.0, band: bool = True
) -> None:
    """Add back of the neck, sleeves, body, neckband and folds of a top."""
    if not cut.worn:
        low = -0.63 + cut.drop
        inside = [(cut.neck + 0.02, -0.635, 0.0), (cut.neck * 0.9, low), (0.0, low + 0.04)]
        sketch.trim(mirrored(inside, float(rng.uniform(-0.1, 0.06))), tone * 0.6)
    if cut.sleeve:
        sleeve = sleeve_outline(cut)
        way = cut.angle - (0.3 if cut.worn else 0.0)
        sketch.cloth(sleeve, turn=0.45 * way, tone=tone)
        sketch.cloth(flipped(sleeve), turn=-0.45 * way, tone=tone)
    sketch.cloth(body_outline(cut), tone=tone, edge=-0.18)
    neck_y = -0.63
    if band:
        bulge = -0.02 if cut.vee else -0.24
        edge = outline(
            [(-cut.neck, neck_y, bulge), (0.0, neck_y + cut.drop, bulge), (cut.neck, neck_y)],
            closed=False,
        )
        sketch.trim(limb([(float(x), float(y)) for x, y in edge], [0.035] * len(edge)), 0.82, -0.15)
    fold_top(sketch, cut, rng)


def fold_top(sketch: Sketch, cut: Cut, rng: np.random.Generator) -> None:
    """Add soft folds at armpits, waist and sleeves, hem stitching."""
    depth = rng.uniform(0.4, 1.0)
    for side in (-1.0, 1.0):
        for _ in range(2):
            start = (side * cut.armpit * 0.92, -0.12 + rng.uniform(-0.05, 0.1))
            end = (side * rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.45))
            path = outline([(*start, rng.uniform(-0.1, 0.1)), end], closed=False)
            sketch.crease(path, 0.05, -0.2 * depth)
        hem = (side * rng.uniform(0.05, cut.hem * 0.9), cut.bottom - 0.02)
        top = (hem[0] + rng.uniform(-0.1, 0.1), cut.bottom - rng.uniform(0.2, 0.6))
        sketch.crease(outline([hem, top], closed=False), 0.05, rng.choice((-0.22, 0.16)) * depth)
        if cut.sleeve > 0.6:
            x = cut.shoulder + np.cos(cut.angle) * cut.sleeve * 0.5
            y = SHOULDER_Y + np.sin(cut.angle) * cut.sleeve * 0.5
            for shift in (-0.06, 0.05):
                a = (side * (x - 0.14), y + shift)
                b = (side * (x - 0.02), y + shift + rng.uniform(-0.06, 0.08))
                sketch.crease(outline([a, b], closed=False), 0.035, -0.25 * depth)
    y = cut.bottom - 0.045
    sketch.line(
        outline([(-cut.hem * 0.97, y, -0.01), (cut.hem * 0.97, y)], closed=False), 0.01, -0.14
    )
    if rng.random() < 0.5:
        a, b = rng.uniform(-0.3, 0.3, 2)
        bend = rng.uniform(-0.08, 0.08)
        path = outline([(a, -0.4, bend), (b, cut.bottom)], closed=False)
        sketch.crease(path, 0.06, rng.uniform(-0.16, 0.12))


def collar(
    sketch: Sketch, cut: Cut, *, tone: float = 0.92, spread: float = 0.1, deep: float = 0.16
) -> None:
    """Add two collar points around the neckline."""
    n = cut.neck
    flap = outline(
        [
            (n * 0.55, -0.71, 0.05),
            (n + 0.05, -0.65, 0.06),
            (n * 0.6 + spread, -0.63 + deep + 0.05),
            (0.01, -0.63 + min(deep * 0.7, cut.drop)),
            (n * 0.7, -0.64),
        ]
    )
    stand = mirrored([(n * 0.75, -0.71, 0.0), (n * 0.85, -0.6), (0.0, -0.55)], 0.06)
    sketch.trim(stand, tone * 0.6)
    sketch.trim(flap, tone)
    sketch.trim(flipped(flap), tone)


def placket(sketch: Sketch, *, top: float, bottom: float, buttons: int, light: bool) -> None:
    """Add a button line down the middle from ``top`` to ``bottom``."""
    strip = outline([(-0.035, top), (0.035, top), (0.035, bottom), (-0.035, bottom)])
    sketch.cloth(strip, edge=-0.2)
    colour = (226, 224, 218) if light else (54, 50, 50)
    for y in np.linspace(top + 0.06, bottom - 0.06, buttons):
        dot = outline([(-0.02, y, 0.2), (0.0, y - 0.02, 0.2), (0.02, y, 0.2), (0.0, y + 0.02, 0.2)])
        sketch.fill(dot, colour, edge=-0.1)
