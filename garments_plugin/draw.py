"""Pictures of drawn garments: sketch, view (worn or laid out), pose and scene."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from PIL import Image

from garments_plugin import accessories, bags, bottoms, footwear, tops
from garments_plugin.fabric import add_print
from garments_plugin.kinds import Garment
from garments_plugin.render import Pose, render
from garments_plugin.scenes import sample_scene
from garments_plugin.sketch import Sketch, limb, outline

_WORN = MappingProxyType(
    {
        "t-shirt": tops.t_shirt,
        "long sleeved top": tops.t_shirt,
        "tank top": tops.tank_top,
        "hoodie": tops.hoodie,
        "sweater": tops.sweater,
        "button up shirt": tops.shirt,
        "polo shirt": tops.polo,
        "jacket": tops.jacket,
        "blazer": tops.blazer,
        "dress": bottoms.dress,
        "skirt": bottoms.skirt,
        "kurta": bottoms.kurta,
        "pants": bottoms.trousers,
        "jeans": bottoms.trousers,
        "shorts": bottoms.trousers,
    }
)
_SHOES = MappingProxyType(
    {
        "shoes": footwear.shoes,
        "formal shoes": footwear.formal_shoes,
        "sandals": footwear.sandals,
        "flip flops": footwear.flip_flops,
        "heels": footwear.heels,
        "boots": footwear.boots,
    }
)
_THINGS: MappingProxyType[str, Callable[[Garment, np.random.Generator], Sketch]] = MappingProxyType(
    {
        "handbag": bags.handbag,
        "backpack": bags.backpack,
        "wallet": bags.wallet,
        "hat": accessories.hat,
        "cap": accessories.cap,
        "socks": accessories.socks,
        "belt": accessories.belt,
        "tie": accessories.tie,
    }
)
_VIEW_SHARES = MappingProxyType(
    {
        "wear": (("flat", 0.36), ("worn", 0.36), ("hung", 0.16), ("studio", 0.12)),
        "other": (("flat", 0.5), ("studio", 0.5)),
    }
)


def _sample_view(garment: Garment, rng: np.random.Generator) -> str:
    shares = _VIEW_SHARES["wear" if garment.garment in _WORN else "other"]
    edges = np.cumsum([share for _, share in shares])
    return shares[min(int(np.searchsorted(edges, rng.random())), len(shares) - 1)][0]


def _sketch(garment: Garment, view: str, rng: np.random.Generator) -> Sketch:
    if garment.garment in _WORN:
        sketch = _WORN[garment.garment](garment, rng, worn=view == "worn")
    elif garment.garment in _SHOES:
        sketch = _SHOES[garment.garment](garment, rng, studio=view == "studio")
    else:
        sketch = _THINGS[garment.garment](garment, rng)
    if garment.pattern == "printed":
        add_print(sketch, garment, rng)
    return sketch


def _hang_up(sketch: Sketch, garment: Garment, rng: np.random.Generator) -> Sketch:
    """The sketch with a hanger: behind the neck of a top, clips on a waistband."""
    hanger = Sketch(gloss=sketch.gloss, weave=sketch.weave)
    colour = ((38, 36, 38), (150, 110, 72), (206, 204, 200))[int(rng.integers(3))]
    top = garment.sleeve is not None
    y = -0.68 if top else -0.1
    hook = outline([(0.0, y, -0.3), (0.07, y - 0.13, -0.4), (-0.05, y - 0.15)], closed=False)
    hanger.fill(limb([(float(a), float(b)) for a, b in hook], [0.025] * len(hook)), (150, 150, 154))
    if top:
        bar = [(-0.36, -0.5), (0.0, y), (0.36, -0.5)]
        hanger.fill(limb(bar, (0.04, 0.05, 0.04)), colour)
    else:
        hanger.fill(limb([(-0.36, y), (0.36, y)], (0.04, 0.04)), colour)
        for x in (-0.24, 0.24):
            hanger.fill(limb([(x, y), (x, 0.06)], (0.04, 0.05)), colour)
    if top:
        hanger.marks += sketch.marks
    else:
        hanger.marks = sketch.marks + hanger.marks
    return hanger


def _sample_pose(garment: Garment, view: str, rng: np.random.Generator) -> Pose:
    still = view in ("worn", "studio")
    turn = rng.normal(0, 0.02 if still else 0.09)
    if garment.garment in ("tie", "belt", "socks", "wallet", "sandals") and rng.random() < 0.4:
        turn += rng.uniform(-0.8, 0.8)
    elif view == "flat" and rng.random() < 0.12:
        turn += rng.uniform(-0.5, 0.5)
    tilt = rng.normal(0, 0.015 if still else 0.05, 2).clip(-0.12, 0.12)
    fill = rng.uniform(0.9, 1.0) if view == "worn" else rng.uniform(0.62, 0.98)
    if view in ("flat", "hung") and rng.random() < 0.12:
        fill = rng.uniform(1.0, 1.15)
    return Pose(
        turn=float(turn),
        stretch=float(rng.uniform(0.86, 1.12) * (rng.choice((1.0, -1.0)))),
        shear=0.0 if still else float(rng.normal(0, 0.03)),
        tilt=(float(tilt[0]), float(tilt[1])),
        fill=float(fill),
        sag=0.003 if still else float(rng.uniform(0.004, 0.016)),
    )


def draw_garment(garment: Garment, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """A picture of the garment, RGB, ``size`` x ``size`` pixels.

    Args:
        garment: What to draw; cut, pose, light and background are left to ``rng``.
        rng: The only source of randomness: the same state draws the same picture.
        size: Width and height in pixels, 32 or more.
    """
    view = _sample_view(garment, rng)
    sketch = _sketch(garment, view, rng)
    if view == "hung" or (view == "studio" and garment.sleeve and rng.random() < 0.15):
        sketch = _hang_up(sketch, garment, rng)
    pose = _sample_pose(garment, view, rng)
    scene = sample_scene(view, garment.shade, rng, size)
    return render(sketch, garment, pose, scene, rng, size)
