"""Sketches of trousers, shorts, skirts and dresses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from garments_plugin.figure import (
    draw_arm,
    draw_feet,
    draw_legs,
    neutral_cloth,
    other_cloth,
    sample_skin,
)
from garments_plugin.kinds import Garment
from garments_plugin.palette import luminance, sample_shade
from garments_plugin.sketch import Sketch, arc, flipped, mirrored, outline
from garments_plugin.torso import Cut, collar, draw_top, placket, sample_cut, wear

_REACH = {"short": (0.5, 0.8), "knee": (0.85, 1.1), "long": (1.4, 1.75)}


def _below(sketch: Sketch, rng: np.random.Generator, *, half: float, legs_from: float) -> None:
    """Add the figure behind a worn lower garment: shirt, bare legs, shoes."""
    skin = sample_skin(rng)
    draw_legs(sketch, skin, top=legs_from, bottom=1.62, half=half, gap=0.05)
    draw_feet(sketch, sample_shade(("black", "brown", "white")[int(rng.integers(3))], rng), y=1.66)
    shirt = other_cloth(rng)
    for left in (False, True):
        line = [(half + 0.08, -0.62), (half + 0.15, -0.2), (half + 0.13, 0.25)]
        draw_arm(sketch, line, skin, left=left)
    sketch.fill(mirrored([(half * 0.95, -0.7), (half * 0.98, 0.12), (0.0, 0.14)]), shirt)
    sketch.extent = (-0.62, float(rng.uniform(-0.6, -0.25)), 0.62, 1.82)


def trousers(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """Pants, jeans or shorts: waistband, fly, pockets, two legs."""
    sketch = Sketch()
    jeans = garment.garment == "jeans"
    if garment.garment == "shorts":
        reach = rng.uniform(0.52, 0.72) if garment.length == "short" else rng.uniform(0.85, 1.05)
        foot = 0.3
    else:
        reach = rng.uniform(1.45, 1.7)
        foot = rng.uniform(0.15, 0.27)
    half = 0.31 if worn else rng.uniform(0.29, 0.34)
    wide = half * (1.04 if worn else rng.uniform(1.08, 1.25))
    spread = 0.02 if worn else rng.uniform(0.0, 0.16)
    if worn:
        _below(sketch, rng, half=half, legs_from=0.1)
    crotch = 0.44 + rng.uniform(-0.03, 0.05)
    share = (reach - crotch) / 1.3
    outer = half * 0.62 + foot / 2 + spread
    if garment.garment == "shorts":
        outer = wide + rng.uniform(-0.02, 0.07)
        foot = outer - rng.uniform(0.02, 0.06) - spread * 0.5
    leg = outline(
        [
            (-0.01, 0.0),
            (half, 0.0, 0.04),
            (wide, crotch * 0.85, 0.0),
            ((wide + outer) / 2 - 0.02 + spread * 0.3 * share, (crotch + reach) / 2, 0.0),
            (outer, reach, 0.02),
            (outer - foot, reach + 0.015, 0.0),
            (min(outer - foot, 0.07) * 0.6 + 0.01, (crotch + reach) / 2, 0.0),
            (0.0, crotch),
        ]
    )
    lean = 0.06
    sketch.cloth(leg, turn=-lean)
    sketch.cloth(flipped(leg), turn=lean)
    _waist(sketch, rng, half, crotch, jeans=jeans)
    _leg_folds(sketch, rng, half, crotch, reach, outer, jeans=jeans)
    for side in (-1, 1):
        path = outline(
            [(side * outer, reach - 0.05), (side * (outer - foot), reach - 0.04)], closed=False
        )
        sketch.line(path, 0.012, -0.25)
    sketch.weave = 1.7 if jeans else 1.0
    return sketch


def _waist(
    sketch: Sketch, rng: np.random.Generator, half: float, crotch: float, *, jeans: bool
) -> None:
    inner = mirrored([(half * 0.94, -0.02, 0.0), (half * 0.9, 0.03, 0.0), (0.0, 0.05)], -0.06)
    sketch.trim(mirrored([(half, -0.01, 0.0), (half * 1.01, 0.07), (0.0, 0.085)], -0.05), 0.88)
    sketch.trim(inner, 0.55)
    cord = not jeans and rng.random() < 0.4
    if cord:
        for side in (-1, 1):
            path = outline([(0.0, 0.06, side * 0.15), (side * 0.06, 0.26)], closed=False)
            sketch.line(path, 0.022, 0.45)
        for x in np.linspace(-half, half, 14):
            sketch.line(np.array([[x, 0.0], [x, 0.075]]), 0.01, -0.3)
    else:
        sketch.fill(arc((0.0, 0.045), (0.022, 0.022), steps=8), (172, 164, 150), edge=-0.2)
        fly = outline([(0.0, 0.08), (0.0, crotch)], closed=False)
        sketch.line(fly, 0.014, -0.4)
        sketch.line(
            outline([(0.06, 0.08), (0.05, 0.26, 0.2), (0.0, 0.34)], closed=False), 0.01, -0.25
        )
        for x in (-0.7, -0.3, 0.3, 0.7):
            sketch.line(np.array([[x * half, -0.02], [x * half, 0.09]]), 0.026, -0.25)
    for side in (-1, 1):
        stitch = 0.2 if jeans else -0.35
        pocket = [(side * half * 0.5, 0.085, side * -0.15), (side * half * 1.04, 0.24)]
        sketch.line(outline(pocket, closed=False), 0.014, -0.35)
        if jeans:
            lower = outline(pocket, closed=False) + np.array([0.0, 0.02])
            sketch.line(lower, 0.01, stitch)


def _leg_folds(
    sketch: Sketch,
    rng: np.random.Generator,
    half: float,
    crotch: float,
    reach: float,
    outer: float,
    *,
    jeans: bool,
) -> None:
    for side in (-1, 1):
        for _ in range(3):
            start = (side * 0.02, crotch + rng.uniform(-0.06, 0.06))
            end = (side * half * rng.uniform(0.4, 0.9), crotch + rng.uniform(-0.15, 0.2))
            sketch.crease(outline([start, end], closed=False), 0.03, -0.28)
        middle = (crotch + reach) / 2
        if jeans:
            worn_out = [(side * half * 0.6, 0.2), (side * (outer - 0.08), middle)]
            sketch.crease(outline(worn_out, closed=False), 0.13, rng.uniform(0.1, 0.5))
        if reach > 1.2:
            for _ in range(3):
                y = middle + rng.uniform(-0.15, 0.2)
                a, b = (side * 0.1, y), (side * 0.27, y + rng.uniform(-0.08, 0.08))
                sketch.crease(outline([a, b], closed=False), 0.03, rng.choice((-0.22, 0.15)))
        if not jeans and rng.random() < 0.5:
            iron = [(side * half * 0.55, 0.2), (side * (outer - 0.1), reach - 0.05)]
            sketch.line(outline(iron, closed=False), 0.016, 0.1)


def skirt(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A straight, flared or pleated skirt with the hem at its length."""
    sketch = Sketch()
    low = rng.uniform(*_REACH[str(garment.length)])
    half = rng.uniform(0.27, 0.32)
    flare = rng.choice((1.05, 1.3, 1.7, 2.1), p=(0.35, 0.25, 0.25, 0.15))
    if garment.length == "long":
        flare = max(flare, 1.35)
    if worn:
        half = 0.3
        flare = min(flare, 1.7)
        _below(sketch, rng, half=half, legs_from=0.3)
    hem = half * flare + 0.05
    hip = half * 1.18 if flare < 1.2 else half + (hem - half) * 0.4
    shape = [(half, 0.0, 0.02), (hip, low * 0.38, 0.0), (hem, low, 0.0), (0.0, low + 0.04 * flare)]
    sketch.cloth(mirrored([(v[0], v[1], v[2] if len(v) > 2 else 0.0) for v in shape]))
    folds = int(rng.integers(5, 11)) if flare > 1.2 else 2
    pleats = flare > 1.2 and rng.random() < 0.45
    _hang(sketch, rng, half, hem, 0.08, low, folds=12 if pleats else folds, sharp=pleats)
    sketch.trim(mirrored([(half, -0.02, 0.0), (half * 1.01, 0.06), (0.0, 0.075)], -0.05), 0.85)
    y = low - 0.03
    sketch.line(outline([(-hem * 0.97, y, -0.02), (hem * 0.97, y)], closed=False), 0.012, -0.2)
    return sketch


def _hang(
    sketch: Sketch,
    rng: np.random.Generator,
    top: float,
    bottom: float,
    high: float,
    low: float,
    *,
    folds: int,
    sharp: bool,
) -> None:
    """Add folds that fan out from a waist to a hem."""
    for share in np.linspace(-0.9, 0.9, folds) + rng.normal(0, 0.03, folds):
        start = (share * top, high + (0.0 if sharp else rng.uniform(0.0, 0.3)))
        path = outline([start, (share * bottom, low)], closed=False)
        if sharp:
            sketch.line(path, 0.018, -0.28)
        else:
            sketch.crease(path, 0.06, rng.choice((-0.26, 0.16)))


def dress(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A dress: a bodice with the sleeves and a skirt with the length it names."""
    cut = sample_cut(rng, garment.sleeve, worn=worn)
    cut = replace(cut, bottom=0.1, waist=cut.armpit * 0.84, hem=cut.armpit * 0.78)
    if garment.sleeve == "none" and rng.random() < 0.4:
        cut = replace(cut, shoulder=cut.neck + 0.05, drop=0.28)
    reach = {"short": (0.45, 0.62), "knee": (0.8, 1.0), "long": (1.3, 1.6)}
    low = rng.uniform(*reach[str(garment.length)])
    flare = rng.uniform(1.15, 2.2) if rng.random() < 0.7 else 1.05
    return _gown(cut, rng, low=low, flare=flare, belt=rng.random() < 0.5)


def _gown(cut: Cut, rng: np.random.Generator, *, low: float, flare: float, belt: bool) -> Sketch:
    sketch = Sketch()
    if cut.worn:
        skin = sample_skin(rng)
        draw_legs(sketch, skin, top=0.2, bottom=1.72, half=0.27, gap=0.05)
        draw_feet(sketch, sample_shade("black" if rng.random() < 0.6 else "brown", rng), y=1.74)
        wear(sketch, replace(cut, shoulder=max(cut.shoulder, 0.37)), rng, legs=False)
        sketch.extent = (-0.75, float(rng.uniform(-1.22, -0.85)), 0.75, max(1.4, low + 0.1))
    draw_top(sketch, cut, rng)
    w, high = cut.hem, cut.bottom - 0.04
    hem = w * flare + 0.06
    hip = max(w * 1.12, w + (hem - w) * 0.45)
    knee = high + (low - high) * 0.42
    sketch.cloth(
        mirrored([(w, high, 0.02), (hip, knee, 0.0), (hem, low, 0.0), (0.0, low + 0.04)]),
        edge=-0.12,
    )
    _hang(sketch, rng, w, hem, high, low, folds=int(rng.integers(4, 9)), sharp=False)
    if belt:
        band = mirrored([(w * 1.01, high - 0.02), (w * 1.01, high + 0.05), (0.0, high + 0.06)])
        sketch.trim(band, rng.choice((0.6, 0.8, 1.2)))
    return sketch


def kurta(garment: Garment, rng: np.random.Generator, *, worn: bool) -> Sketch:
    """A long straight tunic with a slit neckline and side slits."""
    cut = sample_cut(rng, garment.sleeve, worn=worn)
    low = rng.uniform(0.92, 1.1)
    cut = replace(cut, neck=0.13, drop=0.12, vee=False, bottom=0.3, hem=cut.armpit * 0.95)
    sketch = Sketch()
    if worn:
        leggings = neutral_cloth(rng)
        draw_legs(sketch, leggings, top=0.3, bottom=1.75, half=0.27, gap=0.04)
        draw_feet(sketch, (70, 50, 40), y=1.76)
        wear(sketch, cut, rng, legs=False)
        sketch.extent = (-0.75, -1.2, 0.75, float(rng.uniform(1.25, 1.9)))
    draw_top(sketch, cut, rng)
    w, high = cut.hem, cut.bottom - 0.04
    hem = w * rng.uniform(1.1, 1.3)
    sketch.cloth(mirrored([(w, high, 0.0), (hem, low, 0.0), (0.0, low + 0.015)]), edge=-0.1)
    _hang(sketch, rng, w, hem, high, low, folds=4, sharp=False)
    for side in (-1, 1):
        slit = outline([(side * hem * 0.93, low), (side * w * 0.97, low - 0.4)], closed=False)
        sketch.line(slit, 0.014, -0.35)
    light = luminance(garment.shade) < 150
    placket(sketch, top=-0.52, bottom=rng.uniform(-0.25, -0.1), buttons=4, light=light)
    if rng.random() < 0.4:
        collar(sketch, cut, spread=0.03, deep=0.06)
    band = mirrored([(hem * 0.98, low - 0.07), (hem, low), (0.0, low + 0.015)])
    if rng.random() < 0.5:
        sketch.trim(band, rng.choice((0.6, 1.4)))
    return sketch
