"""From a sketch to pixels: pose, rasterising at twice the size, light, shadow, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from garments_plugin.fabric import Floats, smooth_noise, swatch
from garments_plugin.kinds import Garment
from garments_plugin.palette import scaled
from garments_plugin.scenes import Scene
from garments_plugin.sketch import Mark, Points, Sketch, wave

SUPERSAMPLING = 2


@dataclass(frozen=True)
class Pose:
    """Position of a garment in the picture.

    ``turn`` in radians; ``stretch`` multiplies the width; ``shear`` and ``tilt`` (perspective)
    are small numbers around 0; ``fill`` is the share of the picture the garment spans;
    ``sag`` how far straight edges wander.
    """

    turn: float = 0.0
    stretch: float = 1.0
    shear: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    fill: float = 0.85
    sag: float = 0.012


def _place(
    sketch: Sketch, pose: Pose, rng: np.random.Generator, canvas: int
) -> tuple[list[Points], float]:
    """Each mark's points in canvas pixels, and the pixels per unit."""
    lengths = [len(mark.points) for mark in sketch.marks]
    points = np.concatenate([mark.points for mark in sketch.marks])
    if sketch.extent is None:
        solid = np.repeat([m.layer not in ("line", "crease") for m in sketch.marks], lengths)
        frame = points[solid]
    else:
        left, top, right, bottom = sketch.extent
        frame = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    phases = rng.uniform(0, 6.28, 4)
    middle = (frame.min(axis=0) + frame.max(axis=0)) / 2
    c, s = np.cos(pose.turn), np.sin(pose.turn)
    matrix = np.array([[c, s], [-s, c]]) @ np.array([[1.0, 0.0], [pose.shear, 1.0]])
    matrix = np.diag([pose.stretch, 1.0]) @ matrix

    def bent(raw: Points) -> Points:
        projected = (raw + pose.sag * (wave(raw, phases) - raw) - middle) @ matrix
        return np.asarray(projected / (1 + projected @ np.array(pose.tilt))[:, None])

    shape = bent(frame)
    low, high = shape.min(axis=0), shape.max(axis=0)
    unit = pose.fill * canvas / float((high - low).max())
    slack = np.maximum(canvas - (high - low) * unit, 0.0)
    corner = slack * (0.5 + rng.uniform(-0.4, 0.4, 2))
    placed = (bent(points) - low) * unit + corner
    return np.split(placed, np.cumsum(lengths)[:-1]), unit


@dataclass
class _Plates:
    """The picture in the making: colours, cloth mask, object mask, seams, creases."""

    colours: Image.Image
    cover: Image.Image
    cloth: Image.Image
    seams: Image.Image
    creases: Image.Image


class _Painter:
    """Draws the marks of one sketch onto plates."""

    def __init__(
        self, plates: _Plates, garment: Garment, rng: np.random.Generator, unit: float
    ) -> None:
        self.plates = plates
        self.garment = garment
        self.unit = unit
        self.side = plates.colours.width
        self.bolt: Image.Image | None = None
        if garment.pattern not in ("plain", "printed"):
            self.bolt = swatch(garment, rng, unit, int(self.side * 1.45))
        self.draws = {
            name: ImageDraw.Draw(getattr(plates, name))
            for name in ("colours", "cover", "cloth", "seams", "creases")
        }

    def paint(self, mark: Mark, points: Points, turn: float) -> None:
        """Draw one mark whose points are canvas pixels."""
        if mark.layer == "crease":
            coordinates = (points / SUPERSAMPLING).ravel().tolist()
            width = max(int(mark.width * self.unit / SUPERSAMPLING), 1)
            self.draws["creases"].line(coordinates, fill=128 + int(mark.tone * 127), width=width)
            return
        coordinates = points.ravel().tolist()
        if mark.layer == "line":
            width = max(round(mark.width * self.unit), 1)
            self.draws["seams"].line(coordinates, fill=128 + int(mark.tone * 127), width=width)
            return
        self._solid(mark, coordinates, turn)
        self.draws["cover"].polygon(coordinates, fill=255)
        self.draws["cloth"].polygon(coordinates, fill=0 if mark.layer == "fill" else 255)
        if mark.edge:
            self.draws["seams"].polygon(coordinates, fill=128)
            ring = [*coordinates, coordinates[0], coordinates[1]]
            width = max(round(0.02 * self.unit), 1)
            self.draws["seams"].line(ring, fill=128 + int(mark.edge * 127), width=width)

    def _solid(self, mark: Mark, coordinates: list[float], turn: float) -> None:
        if mark.layer == "cloth" and self.bolt is not None:
            self._patterned(self.bolt, coordinates, turn + mark.turn)
            return
        colour = mark.colour or scaled(self.garment.shade, mark.tone)
        self.draws["colours"].polygon(coordinates, fill=colour)

    def _patterned(self, bolt: Image.Image, coordinates: list[float], turn: float) -> None:
        left, top = max(int(min(coordinates[::2])), 0), max(int(min(coordinates[1::2])), 0)
        right = min(int(max(coordinates[::2])) + 2, self.side)
        bottom = min(int(max(coordinates[1::2])) + 2, self.side)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        inside = [v - (top if axis % 2 else left) for axis, v in enumerate(coordinates)]
        ImageDraw.Draw(mask).polygon(inside, fill=255)
        half, middle = bolt.width / 2, self.side / 2
        c, s = float(np.cos(turn)), float(np.sin(turn))
        x, y = left - middle, top - middle
        piece = bolt.transform(
            mask.size,
            Image.Transform.AFFINE,
            (c, s, half + c * x + s * y, -s, c, half - s * x + c * y),
            resample=Image.Resampling.BILINEAR,
        )
        self.plates.colours.paste(piece, (left, top), mask)


def _grey(picture: Image.Image) -> Floats:
    return np.asarray(picture, dtype=np.float32) / 255.0


def _lit(
    plates: _Plates, sketch: Sketch, garment: Garment, scene: Scene, rng: np.random.Generator
) -> Floats:
    """The picture (3, S, S) in 0..255 with folds, edges, shadow; all plates size S."""
    size = plates.colours.width
    colours = np.stack([np.asarray(band, dtype=np.float32) for band in plates.colours.split()])
    cover, cloth = _grey(plates.cover), _grey(plates.cloth)
    near = _grey(plates.cover.filter(ImageFilter.BoxBlur(size * 0.035)))
    far = _grey(plates.cover.filter(ImageFilter.GaussianBlur(size * 0.05)))
    step = max(size // 48, 1)
    dx, dy = np.cos(scene.light), np.sin(scene.light)
    # A blurred outline is a height map: its slope towards the light rounds the garment.
    slope = dx * (far - np.roll(far, step, 1)) + dy * (far - np.roll(far, step, 0))
    rounded = (-rng.uniform(0.7, 2.2) * slope).clip(-0.3, 0.3)

    creases = _grey(plates.creases.filter(ImageFilter.BoxBlur(size * 0.016))) * 2 - 1.004
    folds = smooth_noise(rng, size, int(rng.integers(3, 7)), int(rng.integers(4, 9)))
    cells = int(rng.integers(5, 9)), int(rng.integers(7, 13))
    # Where smooth noise crosses 0 it leaves thin winding lines, much like creased cloth.
    ridges = 0.5 - np.abs(smooth_noise(rng, size, *cells)).clip(0, 1)
    depth = rng.uniform(0.03, 0.11) * min(sketch.weave, 1.2)
    crumple = rng.uniform(0.0, 0.22) if garment.category not in ("shoes", "bags") else 0.03
    relief = cloth * (depth * folds + crumple * ridges) + cover * creases
    weave = rng.standard_normal((size, size), dtype=np.float32) * np.float32(0.022 * sketch.weave)
    seams = _grey(plates.seams) * 2 - 1.004
    light = 1 + relief + rounded + seams * 0.9 + cloth * weave
    rim = rng.uniform(0.04, 0.2)
    light *= 1 - rim + rim * ((near - 0.5) * 2).clip(0, 1)

    shift = round(size * rng.uniform(0.008, 0.03))
    fallen = np.roll(far, (round(-shift * dy), round(-shift * dx)), (0, 1))
    ground = 1 - scene.shadow * fallen * (0.4 + 0.6 * near)
    shine = (relief.clip(0, 1) * 60 + sketch.gloss * 90 * (folds - 0.45).clip(0, 1)) * cloth
    both = cover * light + (1 - cover) * ground
    return np.asarray(colours * both + cover * shine, dtype=np.float32)


def _exposed(picture: Floats, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The photograph: uneven light, exposure, colour cast, softness and sensor noise."""
    size = picture.shape[-1]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    a, b = np.float32(np.cos(scene.light)), np.float32(np.sin(scene.light))
    falloff = 1 + scene.uneven * (a * axis[None, :] + b * axis[:, None]) * 0.8
    studio = scene.uneven == 0.0
    cast = rng.normal(1.0, 0.008 if studio else 0.03, 3).clip(0.92, 1.08)
    exposure = rng.uniform(0.97, 1.03) if studio else rng.uniform(0.78, 1.1)
    gain = (cast * exposure).astype(np.float32)
    grain = rng.uniform(0.5, 1.5) if studio else rng.uniform(1.0, 5.0)
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.float32(grain)
    # Glare lifts dark cloth: the black point of a phone picture is not 0.
    noise += np.float32(rng.uniform(0, 4 if studio else 14))
    seen = picture * (gain[:, None, None] * falloff) + noise
    bands = seen.clip(0, 255).astype(np.uint8)
    photo = Image.merge("RGB", [Image.fromarray(band) for band in bands])
    if rng.random() < 0.3:
        photo = photo.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.002, 0.007)))
    return photo


def render(
    sketch: Sketch,
    garment: Garment,
    pose: Pose,
    scene: Scene,
    rng: np.random.Generator,
    size: int,
) -> Image.Image:
    """The sketch as an RGB picture of ``size`` x ``size`` pixels before its scene."""
    canvas = size * SUPERSAMPLING
    placed, unit = _place(sketch, pose, rng, canvas)
    ground = Image.fromarray(scene.background.clip(0, 255).astype(np.uint8))
    plates = _Plates(
        colours=ground.resize((canvas, canvas), Image.Resampling.NEAREST),
        cover=Image.new("L", (canvas, canvas)),
        cloth=Image.new("L", (canvas, canvas)),
        seams=Image.new("L", (canvas, canvas), 128),
        creases=Image.new("L", (size, size), 128),
    )
    painter = _Painter(plates, garment, rng, unit)
    for mark, points in zip(sketch.marks, placed, strict=True):
        painter.paint(mark, points, pose.turn)
    small = _Plates(
        colours=plates.colours.reduce(SUPERSAMPLING),
        cover=plates.cover.reduce(SUPERSAMPLING),
        cloth=plates.cloth.reduce(SUPERSAMPLING),
        seams=plates.seams.reduce(SUPERSAMPLING),
        creases=plates.creases,
    )
    return _exposed(_lit(small, sketch, garment, scene, rng), scene, rng)
