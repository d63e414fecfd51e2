"""A plain figure that wears garments, as in shop catalogues: skin, hair, neutral clothes."""

from __future__ import annotations

import numpy as np

from garments_plugin.palette import COLOURS, RGB, sample_shade, scaled
from garments_plugin.sketch import Sketch, arc, flipped, limb, mirrored, outline

_SKINS: tuple[RGB, ...] = (
    (236, 196, 170),
    (226, 178, 146),
    (208, 156, 122),
    (182, 128, 94),
    (140, 94, 66),
    (96, 64, 48),
)
_HAIRS: tuple[RGB, ...] = ((30, 24, 22), (52, 36, 26), (96, 62, 36), (150, 110, 60), (110, 44, 30))


def sample_skin(rng: np.random.Generator) -> RGB:
    """A skin tone as sRGB bytes."""
    return scaled(_SKINS[int(rng.integers(len(_SKINS)))], float(rng.uniform(0.94, 1.05)))


def neutral_cloth(rng: np.random.Generator) -> RGB:
    """The colour of something worn beside the garment: denim, black, grey, white."""
    name = ("blue", "black", "grey", "white", "brown")[
        int(rng.choice(5, p=(0.4, 0.25, 0.15, 0.12, 0.08)))
    ]
    if name == "blue":
        return scaled((58, 80, 122), float(rng.uniform(0.6, 1.4)))
    return sample_shade(name, rng)


def other_cloth(rng: np.random.Generator) -> RGB:
    """The colour of a shirt worn above the garment: mostly pale, sometimes any."""
    names = ("white", "grey", "black", COLOURS[int(rng.integers(len(COLOURS)))])
    return sample_shade(names[int(rng.choice(4, p=(0.4, 0.2, 0.15, 0.25)))], rng)


def draw_head(sketch: Sketch, skin: RGB, rng: np.random.Generator, x: float = 0.0) -> None:
    """Add neck, face and hair above shoulders at y = -0.6."""
    hair = _HAIRS[int(rng.integers(len(_HAIRS)))]
    long_hair = rng.random() < 0.5
    if long_hair:
        reach = rng.uniform(-0.62, -0.42)
        half = [(0.0, -1.24), (0.19, -1.12, 0.15), (0.21, -0.85), (0.2, reach, 0.1)]
        sketch.fill(mirrored([(a[0], *a[1:]) for a in half]), hair)
    neck = mirrored([(0.085, -0.86), (0.09, -0.66, -0.1), (0.2, -0.56), (0.12, -0.42)])
    sketch.fill(neck, scaled(skin, 0.9))
    centre = (x, -0.98)
    sketch.fill(arc(centre, (0.145, 0.2)), skin)
    cap = outline(
        [
            (x - 0.155, -0.96, 0.02),
            (x - 0.15, -1.13, 0.3),
            (x + 0.15, -1.13, 0.02),
            (x + 0.155, -0.96, 0.05),
            (x + 0.11, -1.07, -0.12),
            (x - 0.1, -1.08, 0.05),
        ]
    )
    sketch.fill(cap, hair)
    dark = scaled(skin, 0.4)
    for side in (-1, 1):
        eye = arc((x + side * 0.055, -0.985), (0.022, 0.011), steps=8)
        sketch.fill(eye, dark, edge=0.0)
    sketch.fill(arc((x, -0.88), (0.042, 0.012), steps=8), scaled(skin, 0.66), edge=0.0)
    sketch.line(outline([(x + 0.005, -0.97), (x + 0.02, -0.92)], closed=False), 0.012, -0.12)


def arm_line(
    shoulder: tuple[float, float], angle: float, bend: float, reach: float
) -> list[tuple[float, float]]:
    """Shoulder, elbow and wrist of a right arm.

    Args:
        shoulder: Where it starts.
        angle: Radians below the horizontal.
        bend: Radians that the forearm turns inwards.
        reach: Length of the whole arm.
    """
    x, y = shoulder
    ex, ey = x + np.cos(angle) * reach * 0.48, y + np.sin(angle) * reach * 0.48
    turned = angle + bend
    wx, wy = ex + np.cos(turned) * reach * 0.52, ey + np.sin(turned) * reach * 0.52
    return [(x, y), (float(ex), float(ey)), (float(wx), float(wy))]


def draw_arm(
    sketch: Sketch, line: list[tuple[float, float]], skin: RGB, *, left: bool = False
) -> None:
    """Add a bare arm with its hand along ``line`` (mirrored when ``left``)."""
    arm = limb(line, (0.15, 0.115, 0.075))
    (ex, ey), (wx, wy) = line[1], line[2]
    way = np.array([wx - ex, wy - ey])
    way = way / (np.linalg.norm(way) + 1e-9)
    tip = (wx + way[0] * 0.16, wy + way[1] * 0.16)
    middle = (wx + way[0] * 0.07, wy + way[1] * 0.07)
    hand = limb([(wx, wy), middle, tip], (0.07, 0.1, 0.05))
    for part in (arm, hand):
        sketch.fill(flipped(part) if left else part, skin)


def draw_legs(
    sketch: Sketch,
    cover: RGB,
    *,
    top: float,
    bottom: float,
    half: float = 0.3,
    gap: float = 0.03,
    knee: float | None = None,
) -> None:
    """Add two legs from ``top`` to ``bottom``; ``cover`` is skin or the cloth of trousers."""
    crotch = top + 0.42
    middle = (crotch + bottom) / 2 if knee is None else knee
    leg = outline(
        [
            (0.0, top),
            (half, top, 0.04),
            (half * 1.05, crotch),
            (half * 0.86, middle, 0.03),
            (half * 0.6, bottom),
            (gap + half * 0.16, bottom),
            (gap + half * 0.1, middle),
            (gap * 0.3, crotch),
        ]
    )
    for part in (leg, flipped(leg)):
        sketch.fill(part, cover)


def draw_feet(sketch: Sketch, colour: RGB, *, y: float, half: float = 0.3) -> None:
    """Add two shoes whose ankles are at ``y``."""
    x = half * 0.42
    shoe = outline(
        [
            (x - 0.07, y - 0.05),
            (x + 0.06, y - 0.05, 0.1),
            (x + 0.13, y + 0.12, 0.3),
            (x - 0.02, y + 0.14, 0.2),
        ]
    )
    for part in (shoe, flipped(shoe)):
        sketch.fill(part, colour)
