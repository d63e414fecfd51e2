"""Vector sketches: shapes in a garment's own frame, and the pose that puts them on a canvas.

A garment's frame has x to the right and y down; most garments lie within -1..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from garments_plugin.palette import RGB

Points = NDArray[np.float64]
Vertex = tuple[float, ...]
Layer = Literal["cloth", "trim", "fill", "line", "crease"]

_STEPS = np.linspace(0.0, 1.0, 6, endpoint=False)
# Weights (6, 3) of start, control point and end along a quadratic curve.
_CURVE = np.stack([(1 - _STEPS) ** 2, 2 * _STEPS * (1 - _STEPS), _STEPS**2], axis=1)

_LEFT = np.array([1.0, -1.0])


@dataclass(frozen=True)
class Mark:
    """One stroke of a sketch: a filled outline, a seam line or a soft crease."""

    layer: Layer
    points: Points
    colour: RGB | None = None
    tone: float = 1.0
    turn: float = 0.0
    width: float = 0.0
    edge: float = 0.0


@dataclass
class Sketch:
    """Marks in drawing order, later ones on top.

    ``extent`` (left, top, right, bottom) is what has to fit into the picture; without it all
    filled marks have to.
    """

    marks: list[Mark] = field(default_factory=list)
    extent: tuple[float, float, float, float] | None = None
    gloss: float = 0.0
    weave: float = 1.0
    chest: tuple[float, float, float, float] | None = None

    def cloth(
        self, points: Points, turn: float = 0.0, tone: float = 1.0, edge: float = -0.25
    ) -> None:
        """Fill with the garment's cloth and pattern, the pattern turned by ``turn`` radians."""
        self.marks.append(Mark("cloth", points, tone=tone, turn=turn, edge=edge))

    def trim(self, points: Points, tone: float = 0.85, edge: float = -0.25) -> None:
        """Fill with the garment's plain colour, lighter or darker by ``tone``."""
        self.marks.append(Mark("trim", points, tone=tone, edge=edge))

    def fill(self, points: Points, colour: RGB, edge: float = -0.2) -> None:
        """Fill with a colour of its own: skin, a sole, a buckle, another garment."""
        self.marks.append(Mark("fill", points, colour=colour, edge=edge))

    def line(self, points: Points, width: float = 0.012, tone: float = -0.3) -> None:
        """Darken (tone below 0) or lighten along a line: a seam, a zip, a stitched edge."""
        self.marks.append(Mark("line", points, width=width, tone=tone))

    def crease(self, points: Points, width: float = 0.06, tone: float = -0.35) -> None:
        """Darken or lighten softly along a line: a fold of the cloth."""
        self.marks.append(Mark("crease", points, width=width, tone=tone))


def outline(vertices: Sequence[Vertex], *, closed: bool = True) -> Points:
    """The points of a path whose edges may be curved.

    Args:
        vertices: (x, y) or (x, y, bulge); the bulge belongs to the edge to the next vertex, in
            fractions of the edge's length, positive to the left of the way (y down).
        closed: Whether the last vertex is joined to the first.
    """
    if not closed and len(vertices) == 2 and len(vertices[0]) == 2:
        return np.array([vertices[0], vertices[1][:2]], dtype=np.float64)
    table = np.array([v if len(v) == 3 else (*v, 0.0) for v in vertices], dtype=np.float64)
    start = table[:, :2]
    end = np.concatenate([start[1:], start[:1]])
    way = end - start
    middle = (start + end) / 2 + 2 * table[:, 2:] * way[:, ::-1] * _LEFT
    ends = np.concatenate([start, middle, end], axis=1).reshape(-1, 3, 2)
    curve = (_CURVE @ ends).reshape(-1, 2)  # (6V, 2)
    return curve if closed else np.concatenate([curve[: -len(_STEPS)], start[-1:]])


def mirrored(half: Sequence[Vertex], top: float = 0.0) -> Points:
    """A closed outline from its right half, from the top down.

    Args:
        half: Vertices as for `outline`; the last one's bulge curves the bottom edge.
        top: Bulge of the edge between the two first vertices.
    """
    right: list[Vertex] = [v if len(v) == 3 else (*v, 0.0) for v in half]
    bulges = [v[2] for v in right]
    left: list[Vertex] = [
        (-right[i][0], right[i][1], bulges[i - 1] if i else top) for i in range(len(right))
    ]
    return outline([*right, *reversed(left)])


def limb(centres: Sequence[tuple[float, float]], widths: Sequence[float]) -> Points:
    """The closed outline of a band around a line: an arm, a strap, a trouser leg."""
    line = np.array(centres, dtype=np.float64)
    way = np.gradient(line, axis=0)
    way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-9
    side = np.stack([way[:, 1], -way[:, 0]], axis=1) * np.array(widths)[:, None] / 2
    return np.concatenate([line + side, (line - side)[::-1]])


def arc(
    centre: tuple[float, float],
    radii: tuple[float, float],
    start: float = 0.0,
    stop: float = 2 * np.pi,
    steps: int = 20,
) -> Points:
    """Points on an ellipse from angle ``start`` to ``stop`` (radians, clockwise)."""
    angle = np.linspace(start, stop, steps)
    return np.stack(
        [centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1
    )


def flipped(points: Points) -> Points:
    """``points`` with left and right exchanged."""
    return np.asarray(points * np.array([-1.0, 1.0]))


def moved(points: Points, x: float, y: float, turn: float = 0.0, scale: float = 1.0) -> Points:
    """``points`` scaled, turned by ``turn`` radians and shifted by (x, y)."""
    c, s = np.cos(turn) * scale, np.sin(turn) * scale
    return np.asarray(points @ np.array([[c, s], [-s, c]]) + np.array([x, y]))


def wave(x: Points, phases: Points) -> Points:
    """``x`` displaced by slow sines, so that straight edges of cloth sag and bulge."""
    shift = np.stack(
        [
            np.sin(3.1 * x[:, 1] + phases[0]) + 0.5 * np.sin(7.3 * x[:, 1] + phases[1]),
            np.sin(2.7 * x[:, 0] + phases[2]) + 0.5 * np.sin(6.1 * x[:, 0] + phases[3]),
        ],
        axis=1,
    )
    return np.asarray(x + shift)
