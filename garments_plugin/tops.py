"""Sketches of tops: t-shirt to blazer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from garments_plugin.kinds import Garment
from garments_plugin.palette import luminance
from garments_plugin.sketch import Sketch, arc, flipped, limb, mirrored, outline
from garments_plugin.torso import (
    Cut,
    collar,
    cuff_outline,
    draw_top,
    placket,
    sample_cut,
    sleeve_outline,
    wear,
)

_METAL = (176, 176, 180)


def _start(
    garment: Garment, rng: np.random.Generator, *, worn: bool, loose: float = 1.0
) -> tuple[Sketch, Cut]:
    cut = sample_cut(rng, garment.sleeve, worn=worn, loose=loose)
    sketch = Sketch()
    low = min(cut.bottom - 0.12, 0.35)
    sketch.chest = (-0.22, -0.32, 0.22, low - 0.2)
    return sketch, cut


def _ribs(sketch: Sketch, cut: Cut, tone: float = 0.86) -> None:
    """Add knitted cuffs and hem band."""
    if cut.sleeve:
        sketch.trim(cuff_outline(cut, 0.09), tone)
        sketch.trim(flipped(cuff_outline(cut, 0.09)), tone)
    h, b = cut.hem, cut.bottom
    sketch.trim(mirrored([(h * 0.99, b - 0.09, 0.0), (h * 0.96, b + 0.02), (0.0, b + 0.03)]), tone)


def t_shirt(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A top with a round or pointed neckline, sleeves by the garment's attributes."""
    sketch, cut = _start(garment, rng, worn=worn)
    if worn:
        wear(sketch, cut, rng)
    draw_top(sketch, cut, rng)
    if 0 < cut.sleeve < 0.6 and not worn:
        sketch.line(cuff_outline(cut, 0.04)[2:], 0.01, -0.16)
        sketch.line(flipped(cuff_outline(cut, 0.04)[2:]), 0.01, -0.16)
    return sketch


def tank_top(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A sleeveless top with broad or thin straps."""
    sketch, cut = _start(garment, rng, worn=worn)
    straps = rng.uniform(0.05, 0.13)
    neck = rng.uniform(0.12, 0.17)
    cut = replace(cut, neck=neck, shoulder=neck + straps, drop=rng.uniform(0.2, 0.32))
    if worn:
        wear(sketch, replace(cut, shoulder=0.4), rng)
    draw_top(sketch, cut, rng)
    return sketch


def hoodie(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A sweatshirt with a hood, cords and a front pocket or a zip."""
    sketch, cut = _start(garment, rng, worn=worn, loose=1.08)
    cut = replace(cut, neck=0.17, drop=0.12, vee=False)
    if worn:
        wear(sketch, cut, rng)
    hood = [(0.0, -0.98, 0.12), (0.2, -0.86, 0.08), (0.27, -0.62, 0.06), (0.19, -0.45), (0.0, -0.4)]
    if worn:
        hood = [(0.17, -0.8, 0.1), (0.29, -0.62, 0.1), (0.2, -0.46), (0.0, -0.38)]
        draw_top(sketch, cut, rng, band=False)
        sides = outline(
            [(0.1, -0.78, 0.15), (0.28, -0.62, 0.12), (0.17, -0.45), (0.02, -0.44, -0.1)]
        )
        sketch.trim(sides, 0.9)
        sketch.trim(flipped(sides), 0.9)
    else:
        draw_top(sketch, cut, rng, band=False)
        sketch.trim(mirrored(hood), 0.93)
        opening = [(0.0, -0.88, 0.15), (0.12, -0.8, 0.05), (0.15, -0.6, 0.1), (0.0, -0.46)]
        sketch.trim(mirrored(opening), 0.45)
    for side in (-1, 1):
        cord = [(side * 0.05, -0.46), (side * 0.07, -0.3), (side * 0.06, -0.2)]
        sketch.fill(limb(cord, (0.02, 0.02, 0.025)), (222, 220, 214), edge=-0.15)
    low = cut.bottom - 0.1
    if rng.random() < 0.45:
        _zip(sketch, -0.42, cut.bottom)
    pocket = mirrored([(0.14, low - 0.27), (0.25, low - 0.08, -0.1), (0.23, low), (0.0, low)])
    sketch.cloth(pocket, tone=0.95)
    _ribs(sketch, cut)
    sketch.weave = 1.3
    return sketch


def _zip(sketch: Sketch, top: float, bottom: float, x: float = 0.0) -> None:
    sketch.fill(limb([(x, top), (x, bottom)], (0.03, 0.03)), (118, 118, 122), edge=-0.35)
    sketch.fill(limb([(x, top + 0.02), (x, top + 0.1)], (0.03, 0.025)), _METAL)


def sweater(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A knitted pullover with ribbed edges."""
    sketch, cut = _start(garment, rng, worn=worn, loose=1.05)
    if worn:
        wear(sketch, cut, rng)
    draw_top(sketch, cut, rng)
    _ribs(sketch, cut, 0.88)
    if rng.random() < 0.3 and not cut.vee:
        roll = mirrored([(0.15, -0.72, 0.05), (0.17, -0.58, -0.05), (0.0, -0.52)])
        sketch.trim(roll, 0.9)
    for x in np.arange(-0.4, 0.41, rng.uniform(0.07, 0.13)):
        spread = x * cut.hem / 0.4 * 0.95
        path = outline([(spread, -0.42 + 0.3 * abs(x)), (spread, cut.bottom - 0.1)], closed=False)
        sketch.line(path, 0.02, -0.09)
    sketch.weave = 2.2
    return sketch


def shirt(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A shirt with collar, button line, cuffs and a pocket."""
    sketch, cut = _start(garment, rng, worn=worn)
    cut = replace(cut, neck=0.14, drop=rng.uniform(0.1, 0.2), vee=True)
    if worn:
        wear(sketch, cut, rng)
    draw_top(sketch, cut, rng, band=False)
    light = luminance(garment.shade) < 150
    placket(sketch, top=-0.63 + cut.drop, bottom=cut.bottom + 0.01, buttons=7, light=light)
    collar(sketch, cut, spread=0.08)
    if rng.random() < 0.6:
        for side in (1, -1) if rng.random() < 0.3 else (1,):
            x = side * 0.19
            pocket = [
                (x - 0.08, -0.3),
                (x + 0.08, -0.3),
                (x + 0.08, -0.13),
                (x, -0.1),
                (x - 0.08, -0.13),
            ]
            sketch.cloth(outline(pocket), edge=-0.28)
    if cut.sleeve > 0.6:
        sketch.cloth(cuff_outline(cut, 0.1), turn=0.9)
        sketch.cloth(flipped(cuff_outline(cut, 0.1)), turn=-0.9)
    return sketch


def polo(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A polo shirt: collar and a short button line."""
    sketch, cut = _start(garment, rng, worn=worn)
    cut = replace(cut, neck=0.14, drop=0.12, vee=True)
    if worn:
        wear(sketch, cut, rng)
    draw_top(sketch, cut, rng, band=False)
    light = luminance(garment.shade) < 150
    placket(sketch, top=-0.53, bottom=-0.22, buttons=3, light=light)
    tone = 0.88 if rng.random() < 0.75 else 1.35
    collar(sketch, cut, tone=tone, spread=0.12, deep=0.14)
    sketch.trim(cuff_outline(cut, 0.05), tone)
    sketch.trim(flipped(cuff_outline(cut, 0.05)), tone)
    if rng.random() < 0.5:
        sketch.fill(arc((0.19, -0.25), (0.03, 0.035), steps=8), (230, 228, 220), edge=0.0)
    sketch.weave = 1.3
    return sketch


def jacket(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """An outdoor jacket: zip or buttons, pockets; quilted, leather or plain."""
    sketch, cut = _start(garment, rng, worn=worn, loose=1.12)
    cut = replace(cut, neck=0.16, drop=0.1, vee=True, cuff=0.17)
    if worn:
        wear(sketch, cut, rng)
    draw_top(sketch, cut, rng, band=False)
    style = rng.choice(("quilted", "leather", "plain"), p=(0.35, 0.25, 0.4))
    if style == "quilted":
        for y in np.arange(-0.4, cut.bottom, rng.uniform(0.11, 0.16)):
            half = cut.armpit * 0.98 if y > -0.15 else cut.armpit * 0.9
            path = outline([(-half, y, -0.02), (0.0, y, -0.02), (half, y)], closed=False)
            sketch.line(path, 0.016, -0.3)
            sketch.crease(path + np.array([0.0, 0.05]), 0.04, 0.16)
        _rings(sketch, cut)
    sketch.gloss = {"quilted": 0.5, "leather": 1.2, "plain": 0.1}[str(style)]
    sketch.weave = 0.6 if style != "plain" else 1.0
    _zip(sketch, -0.6, cut.bottom, x=float(rng.choice((0.0, 0.0, 0.09))))
    stand = mirrored([(0.15, -0.74, 0.03), (0.18, -0.58, -0.05), (0.04, -0.5)], 0.05)
    if rng.random() < 0.55:
        sketch.trim(stand, 0.8)
    else:
        collar(sketch, cut, tone=0.82, spread=0.16, deep=0.2)
    for side in (-1, 1):
        a, b = (side * 0.15, 0.16), (side * 0.25, 0.36)
        sketch.line(outline([a, b], closed=False), 0.028, -0.45)
    if rng.random() < 0.5:
        _ribs(sketch, cut, 0.75)
    return sketch


def _rings(sketch: Sketch, cut: Cut) -> None:
    way = np.array([np.cos(cut.angle), np.sin(cut.angle)])
    side = np.array([-way[1], way[0]])
    for share in (0.25, 0.42, 0.59, 0.76):
        start = np.array([cut.shoulder, -0.53]) + way * cut.sleeve * share
        path = np.stack([start, start + side * cut.cuff * 1.05])
        sketch.line(path, 0.016, -0.28)
        sketch.line(flipped(path), 0.016, -0.28)


def blazer(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A tailored jacket: lapels over a light shirt, one or two buttons, pockets."""
    sketch, cut = _start(garment, rng, worn=worn, loose=1.04)
    cut = replace(cut, neck=0.15, drop=0.42, vee=True, cuff=0.16, bottom=cut.bottom + 0.06)
    if worn:
        wear(sketch, cut, rng)
    under = (228, 228, 230) if worn else (90, 86, 92)
    if not worn and rng.random() < 0.6:
        under = (64, 60, 66)
    deep = -0.63 + cut.drop
    sketch.cloth(sleeve_outline(cut), turn=0.4)
    sketch.cloth(flipped(sleeve_outline(cut)), turn=-0.4)
    panel = mirrored([(0.14, -0.66), (0.2, -0.4), (0.06, deep + 0.1)], 0.05)
    draw_top(sketch, replace(cut, sleeve=0.001), rng, band=False)
    sketch.fill(panel, under)
    lapel = outline(
        [
            (0.12, -0.7, 0.04),
            (0.2, -0.6),
            (0.27, -0.42),
            (0.2, -0.39),
            (0.23, -0.32),
            (0.01, deep + 0.06, 0.04),
            (0.09, -0.5, 0.02),
        ]
    )
    for part in (lapel, flipped(lapel)):
        sketch.trim(part, 0.94, -0.32)
    middle = outline([(0.0, deep + 0.05), (0.02, cut.bottom)], closed=False)
    sketch.line(middle, 0.016, -0.4)
    for k in range(int(rng.integers(1, 4))):
        dot = arc((0.03, deep + 0.1 + 0.13 * k), (0.02, 0.02), steps=8)
        sketch.fill(dot, (60, 54, 50), edge=0.1)
    for side in (-1, 1):
        flap = outline(
            [(side * 0.12, 0.24), (side * 0.28, 0.22), (side * 0.28, 0.29), (side * 0.12, 0.31)]
        )
        sketch.cloth(flap, tone=0.95, edge=-0.35)
    return sketch
