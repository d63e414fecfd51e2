"""Backgrounds and light behind a drawn garment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from garments_plugin.fabric import Floats, smooth_noise
from garments_plugin.palette import COLOURS, sample_shade

View = str
VIEWS = ("flat", "hung", "studio", "worn")


@dataclass(frozen=True)
class Scene:
    """A background (S, S, 3) in 0..255 and how light falls on what lies before it.

    ``shadow`` is the strength of the cast shadow (0..1), ``light`` the direction it comes from
    (radians), ``uneven`` how much the light falls off over the picture.
    """

    background: Floats
    shadow: float
    light: float
    uneven: float


def _grid(size: int, turn: float) -> tuple[Floats, Floats]:
    """Coordinates (size, size) of each pixel, picture width 1, turned by ``turn``."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = axis[None, :], axis[:, None]
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return np.asarray(c * x + s * y, np.float32), np.asarray(c * y - s * x, np.float32)


def _tint(rng: np.random.Generator, *, vivid: float) -> Floats:
    """A ground colour (3,): any of the basic ones, or with 1 - vivid a pale neutral."""
    if rng.random() < vivid:
        name = COLOURS[int(rng.integers(len(COLOURS)))]
        colour = np.array(sample_shade(name, rng), dtype=np.float32)
        return np.asarray(colour * 0.9 + 12.0, dtype=np.float32)
    warmth = rng.uniform(-4, 14)
    level = rng.uniform(140, 228)
    return np.array([level + warmth, level, level - warmth], dtype=np.float32)


def _studio(rng: np.random.Generator, size: int) -> Floats:
    level = rng.choice((255.0, 252.0, 246.0, 236.0), p=(0.6, 0.2, 0.12, 0.08))
    ground = np.full((size, size, 3), level, dtype=np.float32)
    if rng.random() < 0.15:
        ground -= np.linspace(0, rng.uniform(5, 30), size, dtype=np.float32)[:, None, None]
    return ground


def _wood(rng: np.random.Generator, size: int) -> Floats:
    woods = ((158, 112, 66), (96, 62, 40), (186, 178, 168), (132, 124, 116), (208, 162, 96))
    base = np.array(woods[int(rng.integers(len(woods)))], dtype=np.float32)
    turn = rng.choice((0.0, np.pi / 2, 0.0, 0.5)) + rng.normal(0, 0.06)
    u, v = _grid(size, turn)
    width = rng.uniform(0.09, 0.26)
    lane = np.floor(v / width + rng.uniform(0, 1)).astype(int)
    lane -= lane.min()
    tone = rng.normal(1.0, 0.07, lane.max() + 1).astype(np.float32)[lane]
    grain = smooth_noise(rng, size, size // 2, 5 if abs(np.sin(turn)) < 0.7 else size // 2)
    if abs(np.sin(turn)) >= 0.7:
        grain = smooth_noise(rng, size, 5, size // 2)
    gap = np.abs((v / width + 0.5) % 1.0 - 0.5) * width < 0.006
    tone = tone * (1 + 0.09 * grain) * (1 - 0.35 * gap)
    ends = np.abs((u / 0.7 + lane * 0.37) % 1.0 - 0.5) < 0.006
    return np.asarray((tone * (1 - 0.25 * ends))[..., None] * base)


def _carpet(rng: np.random.Generator, size: int) -> Floats:
    base = _tint(rng, vivid=0.45)
    fine = rng.standard_normal((size, size), dtype=np.float32)
    tone = 1 + rng.uniform(0.04, 0.13) * fine
    tone += rng.uniform(0.05, 0.14) * smooth_noise(rng, size, size // 4, size // 4)
    tone += 0.08 * smooth_noise(rng, size, 5, 5)
    return np.asarray(tone[..., None] * base)


def _rug(rng: np.random.Generator, size: int) -> Floats:
    """An ornament: a few random colours in mirrored blobs, repeated."""
    colours = np.stack([_tint(rng, vivid=0.75) for _ in range(4)]) * 0.85
    u, v = _grid(size, rng.normal(0, 0.3))
    period = rng.uniform(0.18, 0.4)
    x = np.abs((u / period) % 1.0 - 0.5) * 6.28
    y = np.abs((v / period) % 1.0 - 0.5) * 6.28
    a, b, c = rng.uniform(1.0, 3.5, 3).astype(np.float32)
    field = np.sin(a * x) * np.cos(b * y) + 0.7 * np.cos(c * (x + y))
    code = np.digitize(field, (-0.6, 0.1, 0.75))
    tone = 1 + 0.08 * rng.standard_normal((size, size), dtype=np.float32)
    return np.asarray(colours[code] * tone[..., None], dtype=np.float32)


def _tiles(rng: np.random.Generator, size: int) -> Floats:
    base = _tint(rng, vivid=0.15)
    u, v = _grid(size, rng.choice((0.0, 0.78)) + rng.normal(0, 0.1))
    side = rng.uniform(0.22, 0.55)
    x, y = (u / side + rng.uniform()) % 1.0, (v / side + rng.uniform()) % 1.0
    gap = (np.minimum(x, y) * side) < rng.uniform(0.008, 0.018)
    tone = 1 + 0.05 * smooth_noise(rng, size, 12, 12) + 0.04 * smooth_noise(rng, size, 40, 40)
    return np.asarray((tone * (1 - rng.uniform(0.15, 0.4) * gap))[..., None] * base)


def _sheet(rng: np.random.Generator, size: int) -> Floats:
    base = _tint(rng, vivid=0.65)
    slow = smooth_noise(rng, size, int(rng.integers(3, 6)), int(rng.integers(3, 7)))
    # Ridges, not hills: folds of a sheet are thin and run in one direction.
    ridge = 1 - np.abs(smooth_noise(rng, size, int(rng.integers(3, 8)), int(rng.integers(4, 9))))
    tone = 1 + 0.07 * slow + rng.uniform(0.03, 0.2) * (ridge - 0.7)
    ground = tone[..., None] * base
    if rng.random() < 0.22:
        u, v = _grid(size, rng.uniform(0, 3.14))
        period = rng.uniform(0.06, 0.16)
        band = (u / period) % 1.0 < 0.5
        if rng.random() < 0.4:
            band = band ^ ((v / period) % 1.0 < 0.5)
        ground += band[..., None] * (_tint(rng, vivid=0.5) - base) * 0.5
    return np.asarray(ground, dtype=np.float32)


def _wall(rng: np.random.Generator, size: int) -> Floats:
    ground = np.broadcast_to(_tint(rng, vivid=0.22), (size, size, 3)).copy()
    u, v = _grid(size, rng.normal(0, 0.03))
    if rng.random() < 0.55:
        edge = rng.uniform(-0.45, 0.45)
        side = u > edge if rng.random() < 0.6 else v > abs(edge)
        ground[side] = _tint(rng, vivid=0.3)
        ground *= 1 - 0.35 * np.exp(-((((u if side[0, -1] else v) - edge) / 0.01) ** 2))[..., None]
    slope = u * rng.normal(0, 0.25) + v * rng.normal(0, 0.25)
    return np.asarray(ground * (1 + slope)[..., None], dtype=np.float32)


_GROUNDS = MappingProxyType(
    {
        "flat": (
            (_wood, 0.25),
            (_carpet, 0.22),
            (_sheet, 0.28),
            (_tiles, 0.11),
            (_rug, 0.07),
            (_wall, 0.07),
        ),
        "hung": ((_wall, 0.75), (_wood, 0.15), (_sheet, 0.10)),
        "studio": ((_studio, 1.0),),
        "worn": ((_studio, 0.85), (_wall, 0.15)),
    }
)


def _cut_off(ground: Floats, rng: np.random.Generator) -> Floats:
    """The ground with another surface along one side: a sill, a bed's edge, a door."""
    size = ground.shape[0]
    u, _ = _grid(size, rng.choice((0.0, 1.57, 3.14, 4.71)) + rng.normal(0, 0.12))
    edge = rng.uniform(0.3, 0.45)
    tone = 1 + 0.05 * smooth_noise(rng, size, 6, 6)[..., None]
    side = (u > edge)[..., None]
    line = 1 - 0.4 * np.exp(-(((u - edge) / 0.012) ** 2))[..., None]
    return np.asarray(np.where(side, _tint(rng, vivid=0.35) * tone, ground) * line)


def sample_scene(
    view: View, cloth: tuple[int, int, int], rng: np.random.Generator, size: int
) -> Scene:
    """A random background for ``view``, seldom in the garment's own colour.

    Args:
        view: One of `VIEWS`.
        cloth: The garment's shade, which the ground should differ from.
        rng: Source of every choice.
        size: Width and height in pixels.
    """
    grounds = _GROUNDS[view]
    edges = np.cumsum([share for _, share in grounds])
    paint: Callable[[np.random.Generator, int], Floats]
    paint = grounds[min(int(np.searchsorted(edges, rng.random())), len(grounds) - 1)][0]
    background = paint(rng, size)
    if paint is not _studio:
        for _ in range(3):
            mean = background[::8, ::8].mean(axis=(0, 1))
            if np.abs(mean - np.array(cloth)).sum() > 75:
                break
            background = paint(rng, size)
        if view == "flat" and rng.random() < 0.14:
            background = _cut_off(background, rng)
    clean = paint is _studio
    return Scene(
        background=background,
        shadow=float(rng.uniform(0.0, 0.12) if clean else rng.uniform(0.2, 0.6)),
        light=float(rng.uniform(-2.6, -0.5)),
        uneven=0.0 if clean else float(rng.uniform(0.03, 0.22)),
    )
