"""Cloth colours: eleven basic names, each with the shades that clothes of that name have."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

RGB = tuple[int, int, int]

COLOURS = (
    "black",
    "blue",
    "brown",
    "green",
    "grey",
    "orange",
    "pink",
    "purple",
    "red",
    "white",
    "yellow",
)
COLOUR_SHARES = (0.14, 0.16, 0.07, 0.09, 0.09, 0.05, 0.08, 0.06, 0.10, 0.11, 0.05)

# Dark cloth in photographs is never pure black and white cloth never pure white.
SHADES = MappingProxyType(
    {
        "black": ((24, 24, 27), (33, 31, 33), (40, 40, 45), (28, 27, 31), (50, 48, 50)),
        "blue": (
            (28, 38, 78),
            (34, 48, 98),
            (32, 72, 185),
            (122, 166, 218),
            (62, 92, 142),
            (26, 112, 168),
            (98, 132, 178),
            (18, 62, 150),
            (52, 78, 120),
            (40, 150, 205),
        ),
        "brown": ((98, 62, 38), (128, 88, 54), (164, 122, 82), (64, 43, 32), (150, 98, 60)),
        "green": (
            (36, 128, 62),
            (88, 98, 48),
            (146, 204, 164),
            (24, 68, 46),
            (128, 186, 52),
            (22, 122, 102),
            (60, 165, 90),
            (70, 96, 66),
        ),
        "grey": ((128, 128, 130), (94, 96, 99), (160, 161, 163), (142, 143, 148), (112, 114, 120)),
        "orange": ((234, 118, 32), (222, 96, 30), (243, 152, 84), (200, 92, 36), (250, 138, 40)),
        "pink": (
            (238, 148, 178),
            (226, 52, 128),
            (243, 192, 204),
            (210, 40, 128),
            (232, 128, 146),
            (245, 105, 160),
        ),
        "purple": ((108, 52, 138), (78, 42, 98), (172, 142, 204), (94, 38, 84), (92, 62, 176)),
        "red": ((196, 26, 36), (140, 22, 32), (112, 22, 36), (218, 46, 44), (178, 22, 42)),
        "white": ((236, 236, 234), (226, 227, 226), (240, 236, 225), (220, 223, 228)),
        "yellow": ((242, 206, 42), (208, 164, 42), (246, 226, 126), (250, 218, 20), (232, 190, 70)),
    }
)

# Denim has its own blues; its other colours are those of any cloth.
_DENIM = ((52, 72, 112), (70, 98, 140), (108, 138, 176), (36, 50, 82), (86, 112, 150))


def sample_shade(colour: str, rng: np.random.Generator, *, denim: bool = False) -> RGB:
    """A shade that bears the name ``colour``, as sRGB bytes.

    Args:
        colour: One of `COLOURS`.
        rng: Source of the choice and of the small change of tint and lightness.
        denim: Whether blue is to be one of denim's blues.
    """
    shades = _DENIM if denim and colour == "blue" else SHADES[colour]
    rgb = np.array(shades[int(rng.integers(len(shades)))], dtype=np.float64)
    # Neutral names leave little room for a tint before they become another name.
    tint = 2.0 if colour in ("black", "grey", "white") else 7.0
    rgb = rgb * rng.uniform(0.93, 1.07) + rng.normal(0.0, tint / 2, 3).clip(-tint, tint)
    red, green, blue = rgb.clip(8, 248).astype(int)
    return int(red), int(green), int(blue)


def luminance(rgb: RGB) -> float:
    """The perceived brightness of an sRGB colour, 0 to 255 (Rec. 601 weights)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def scaled(rgb: RGB, factor: float) -> RGB:
    """``rgb`` made darker (factor below 1) or lighter (above 1), clipped to bytes."""
    lift = 14.0 * max(factor - 1.0, 0.0)
    red, green, blue = (int(min(max(c * factor + lift, 0), 255)) for c in rgb)
    return red, green, blue


def accent(rgb: RGB, rng: np.random.Generator) -> RGB:
    """A second colour that stands out against ``rgb``, for stripes, prints and trims."""
    for _ in range(6):
        if rng.random() < 0.55:
            name = ("white", "black", "grey")[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
        else:
            name = COLOURS[int(rng.integers(len(COLOURS)))]
        second = sample_shade(name, rng)
        if sum(abs(a - b) for a, b in zip(rgb, second, strict=True)) > 130:
            return second
    return (238, 238, 236) if luminance(rgb) < 128 else (36, 36, 40)
