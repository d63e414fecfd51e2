"""Cloth: pattern swatches, prints, and the smooth noise of folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from garments_plugin.kinds import Garment
from garments_plugin.palette import RGB, accent, luminance, scaled
from garments_plugin.sketch import Mark, Sketch, arc, limb, moved, outline

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def smooth_noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> Floats:
    """Noise (size, size) around 0, about -1..1, with ``rows`` x ``columns`` cells."""
    cells = rng.normal(128.0, 50.0, (rows, columns)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
    return (np.asarray(picture, dtype=np.float32) - 128.0) / 90.0


def swatch(garment: Garment, rng: np.random.Generator, unit: float, side: int) -> Image.Image:
    """A square of the garment's patterned cloth, ``side`` pixels wide.

    Args:
        garment: Gives pattern and colour; a plain or printed one gives an even square.
        rng: Source of period, direction and second colours.
        unit: Pixels per unit of the garment's frame.
        side: Width and height in pixels.
    """
    if garment.pattern == "striped":
        return _stripes(garment.shade, rng, unit, side, upright=_upright(garment, rng))
    if garment.pattern == "checked":
        return _checks(garment.shade, rng, unit, side)
    even = Image.new("RGB", (side, side), garment.shade)
    if garment.pattern == "dotted":
        _dots(even, garment.shade, rng, unit)
    elif garment.pattern == "floral":
        _flowers(even, garment.shade, rng, unit)
    return even


def _upright(garment: Garment, rng: np.random.Generator) -> bool:
    shares = {"button up shirt": 0.85, "pants": 0.8, "kurta": 0.6, "tie": 0.25, "shorts": 0.4}
    return rng.random() < shares.get(garment.garment, 0.15)


def _bands(rng: np.random.Generator, unit: float, side: int, duty: float) -> Bytes:
    """Where (side,) a regular band runs: 0 base, 1 band, 2 thin second band."""
    period = max(rng.uniform(0.14, 0.34) * unit, 7.0)
    place = (np.arange(side) + rng.uniform(0, period)) % period / period
    code = (place < duty).astype(np.uint8)
    if rng.random() < 0.35:
        code[(place > 0.66) & (place < 0.76)] = 2
    return code


def _second(base: RGB, rng: np.random.Generator) -> RGB:
    if rng.random() < 0.3:
        return scaled(base, 0.5 if luminance(base) > 70 else 2.6)
    return accent(base, rng)


def _stripes(
    base: RGB, rng: np.random.Generator, unit: float, side: int, *, upright: bool
) -> Image.Image:
    duty = rng.uniform(0.14, 0.26) if upright else rng.uniform(0.22, 0.45)
    code = _bands(rng, unit * (0.7 if upright else 1.0), side, duty)
    table = np.array([base, _second(base, rng), accent(base, rng)], dtype=np.uint8)
    row = table[code]
    shape = (side, side, 3)
    lanes = row[None, :] if upright else row[:, None]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(lanes, shape)))


def _checks(base: RGB, rng: np.random.Generator, unit: float, side: int) -> Image.Image:
    code = _bands(rng, unit * 1.1, side, rng.uniform(0.25, 0.42))
    weight = np.array([0.0, 0.85, 0.5], dtype=np.float32)[code]
    across = (weight[:, None] + weight[None, :])[..., None] * 0.46
    second = np.array(_second(base, rng), dtype=np.float32)
    mixed = np.array(base, dtype=np.float32) * (1 - across) + second * across
    return Image.fromarray(mixed.astype(np.uint8))


def _dots(picture: Image.Image, base: RGB, rng: np.random.Generator, unit: float) -> None:
    draw = ImageDraw.Draw(picture)
    step = max(rng.uniform(0.13, 0.24) * unit, 8.0)
    radius = step * rng.uniform(0.2, 0.3)
    colour = accent(base, rng)
    for row, y in enumerate(np.arange(0.0, picture.height, step * 0.87)):
        for x in np.arange((row % 2) * step / 2, picture.width, step):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _flowers(picture: Image.Image, base: RGB, rng: np.random.Generator, unit: float) -> None:
    draw = ImageDraw.Draw(picture)
    petal = accent(base, rng)
    colours = (petal, petal, accent(base, rng))
    leaf = (52, 110, 58) if luminance(base) > 90 else (120, 176, 110)
    step = max(rng.uniform(0.2, 0.36) * unit, 12.0)
    count = int((picture.width / step) ** 2 * 1.1)
    positions = rng.uniform(0, picture.width, (count, 2))
    sizes = rng.uniform(0.16, 0.3, count) * step
    turns = rng.uniform(0, 6.28, count)
    for (x, y), r, turn in zip(positions, sizes, turns, strict=True):
        lx, ly = x + 1.7 * r * np.cos(turn), y + 1.7 * r * np.sin(turn)
        draw.ellipse((lx - r * 0.7, ly - r * 0.5, lx + r * 0.7, ly + r * 0.5), fill=leaf)
        colour = colours[int(turn * 10) % 3]
        for k in range(5):
            px, py = x + r * np.cos(turn + k * 1.257), y + r * np.sin(turn + k * 1.257)
            draw.ellipse((px - r * 0.6, py - r * 0.6, px + r * 0.6, py + r * 0.6), fill=colour)
        draw.ellipse((x - r * 0.4, y - r * 0.4, x + r * 0.4, y + r * 0.4), fill=(226, 190, 70))


def add_print(sketch: Sketch, garment: Garment, rng: np.random.Generator) -> None:
    """Put a print (lettering, an emblem, a picture) on the sketch's ``chest`` box."""
    if sketch.chest is None:
        return
    left, top, right, bottom = sketch.chest
    centre = ((left + right) / 2, (top + bottom) / 2)
    width, height = right - left, bottom - top
    ink = accent(garment.shade, rng)
    style = int(rng.integers(4))
    marks: list[Mark] = []
    if style in (0, 3):
        marks += _lettering(rng, ink, left, top + (0.55 * height if style == 3 else 0.1), width)
    if style in (1, 3):
        marks += _emblem(rng, ink, accent(garment.shade, rng), centre, min(width, height) * 0.42)
    if style == 2:
        marks += _poster(rng, ink, (left, top, right, bottom))
    sketch.marks += marks


def _patch(points: NDArray[np.float64], colour: RGB) -> Mark:
    return Mark("fill", points, colour=colour, edge=0.0)


def _lettering(
    rng: np.random.Generator, ink: RGB, left: float, top: float, width: float
) -> list[Mark]:
    marks = []
    for row in range(int(rng.integers(1, 4))):
        height = rng.uniform(0.07, 0.13)
        x = left + rng.uniform(0.0, 0.25) * width
        end = left + width * rng.uniform(0.75, 1.0)
        while x < end:
            stroke = rng.uniform(0.025, 0.045)
            y = top + row * 0.15
            tall = height * rng.uniform(0.75, 1.0)
            marks.append(
                _patch(
                    outline([(x, y), (x + stroke, y), (x + stroke, y + tall), (x, y + tall)]), ink
                )
            )
            if rng.random() < 0.6:
                bar = y + tall * rng.choice((0.0, 0.4, 0.8))
                marks.append(
                    _patch(
                        outline(
                            [(x, bar), (x + 0.08, bar), (x + 0.08, bar + 0.03), (x, bar + 0.03)]
                        ),
                        ink,
                    )
                )
            x += rng.uniform(0.07, 0.12)
    return marks


def _emblem(
    rng: np.random.Generator, ink: RGB, second: RGB, centre: tuple[float, float], radius: float
) -> list[Mark]:
    marks = [_patch(arc(centre, (radius, radius * rng.uniform(0.7, 1.1))), ink)]
    spikes = int(rng.integers(3, 9))
    angle = np.arange(2 * spikes) * np.pi / spikes
    reach = np.where(np.arange(2 * spikes) % 2, rng.uniform(0.3, 0.6), 0.85) * radius
    star = np.stack([np.cos(angle) * reach, np.sin(angle) * reach], axis=1)
    marks.append(_patch(moved(star, *centre, turn=float(rng.uniform(0, 3))), second))
    return marks


def _poster(
    rng: np.random.Generator, ink: RGB, box: tuple[float, float, float, float]
) -> list[Mark]:
    left, top, right, bottom = box
    marks = [_patch(outline([(left, top), (right, top), (right, bottom), (left, bottom)]), ink)]
    for _ in range(int(rng.integers(3, 7))):
        colour = accent(ink, rng)
        a = (float(rng.uniform(left, right)), float(rng.uniform(top, bottom)))
        b = (float(rng.uniform(left, right)), float(rng.uniform(top, bottom)))
        if rng.random() < 0.5:
            marks.append(_patch(limb([a, b], (0.04, 0.07)), colour))
        else:
            r = 0.22 * min(right - left, bottom - top)
            inside = (
                float(np.clip(a[0], left + r, right - r)),
                float(np.clip(a[1], top + r, bottom - r)),
            )
            marks.append(_patch(arc(inside, (r, r * 0.8)), colour))
    return marks
