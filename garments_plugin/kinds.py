"""Kinds of drawn garments with attributes and frequencies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from garments_plugin.palette import COLOUR_SHARES, COLOURS, RGB, sample_shade

ATTRIBUTES = ("garment", "colour", "pattern", "sleeve", "length")
PATTERNS = ("plain", "striped", "checked", "dotted", "floral", "printed")
SLEEVES = ("none", "short", "long")
LENGTHS = ("short", "knee", "long")
CATEGORIES = ("toptee", "shirt", "dress", "bottoms", "shoes", "bags", "accessory")

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Kind:
    """One kind of garment: the values its attributes may take, with their shares.

    ``sleeves`` and ``lengths`` are empty where the kind has no such attribute, and hold one
    value where the kind itself fixes it (a tank top has no sleeves).
    """

    name: str
    category: str
    share: float
    patterns: Shares
    sleeves: Shares = ()
    lengths: Shares = ()
    colours: Shares = ()
    plural: bool = False


@dataclass(frozen=True)
class Garment:
    """One garment to draw: its attributes and the exact shade of its cloth (sRGB bytes)."""

    garment: str
    colour: str
    pattern: str
    sleeve: str | None
    length: str | None
    shade: RGB

    @property
    def category(self) -> str:
        """The FashionIQ-style category of the kind."""
        return KINDS[self.garment].category

    def attributes(self) -> dict[str, str]:
        """The attributes that the garment has, by name, as in ``attributes.json``."""
        values = {name: getattr(self, name) for name in ATTRIBUTES}
        return {name: value for name, value in values.items() if value is not None}


_ANY: Shares = (
    ("plain", 0.54),
    ("striped", 0.16),
    ("printed", 0.16),
    ("floral", 0.07),
    ("dotted", 0.07),
)
_PLAIN: Shares = (("plain", 1.0),)
_LONG: Shares = (("long", 1.0),)
_SHORT: Shares = (("short", 1.0),)
_DENIM: Shares = (("blue", 0.66), ("black", 0.16), ("grey", 0.12), ("white", 0.06))
_LEATHER: Shares = (("black", 0.52), ("brown", 0.36), ("white", 0.06), ("red", 0.06))
_SPORT: Shares = (("plain", 0.7), ("printed", 0.3))

_ALL = (
    Kind("t-shirt", "toptee", 1.6, _ANY, _SHORT),
    Kind("long sleeved top", "toptee", 1.0, _ANY, _LONG),
    Kind("tank top", "toptee", 0.8, _ANY, (("none", 1.0),)),
    Kind("hoodie", "toptee", 0.8, _SPORT, _LONG),
    Kind("sweater", "toptee", 0.8, (("plain", 0.65), ("striped", 0.35)), _LONG),
    Kind(
        "button up shirt",
        "shirt",
        1.4,
        (("plain", 0.5), ("checked", 0.26), ("striped", 0.18), ("floral", 0.06)),
        (("long", 0.68), ("short", 0.32)),
    ),
    Kind("polo shirt", "shirt", 0.9, (("plain", 0.72), ("striped", 0.28)), _SHORT),
    Kind("jacket", "shirt", 0.9, _PLAIN, _LONG),
    Kind("blazer", "shirt", 0.6, (("plain", 0.85), ("checked", 0.15)), _LONG),
    Kind(
        "dress",
        "dress",
        1.2,
        (("plain", 0.6), ("floral", 0.2), ("dotted", 0.1), ("striped", 0.1)),
        (("none", 0.5), ("short", 0.3), ("long", 0.2)),
        (("knee", 0.55), ("short", 0.2), ("long", 0.25)),
    ),
    Kind(
        "skirt",
        "dress",
        1.0,
        (("plain", 0.65), ("checked", 0.12), ("floral", 0.13), ("striped", 0.1)),
        (),
        (("short", 0.45), ("knee", 0.35), ("long", 0.2)),
    ),
    Kind(
        "kurta",
        "dress",
        0.6,
        (("plain", 0.6), ("floral", 0.25), ("striped", 0.15)),
        (("long", 0.6), ("short", 0.4)),
        (("knee", 1.0),),
    ),
    Kind(
        "pants",
        "bottoms",
        1.2,
        (("plain", 0.78), ("striped", 0.1), ("checked", 0.12)),
        (),
        _LONG,
        (),
        plural=True,
    ),
    Kind("jeans", "bottoms", 0.7, _PLAIN, (), _LONG, _DENIM, plural=True),
    Kind(
        "shorts",
        "bottoms",
        1.1,
        (("plain", 0.72), ("striped", 0.1), ("checked", 0.1), ("floral", 0.08)),
        (),
        (("short", 0.6), ("knee", 0.4)),
        (),
        plural=True,
    ),
    Kind("shoes", "shoes", 1.2, _PLAIN, plural=True),
    Kind("formal shoes", "shoes", 0.4, _PLAIN, (), (), _LEATHER, plural=True),
    Kind("sandals", "shoes", 0.6, _PLAIN, plural=True),
    Kind("flip flops", "shoes", 0.5, _PLAIN, plural=True),
    Kind("heels", "shoes", 0.5, _PLAIN, plural=True),
    Kind("boots", "shoes", 0.4, _PLAIN, (), (), _LEATHER, plural=True),
    Kind("handbag", "bags", 1.0, (("plain", 0.8), ("checked", 0.1), ("floral", 0.1))),
    Kind("backpack", "bags", 0.8, (("plain", 0.85), ("printed", 0.15))),
    Kind("wallet", "bags", 0.7, _PLAIN),
    Kind("hat", "accessory", 0.9, (("plain", 0.85), ("striped", 0.15))),
    Kind("cap", "accessory", 0.9, _SPORT),
    Kind(
        "socks",
        "accessory",
        0.9,
        (("plain", 0.55), ("striped", 0.3), ("dotted", 0.15)),
        plural=True,
    ),
    Kind("belt", "accessory", 0.6, _PLAIN),
    Kind("tie", "accessory", 0.7, (("plain", 0.5), ("striped", 0.3), ("dotted", 0.2))),
)
KINDS = MappingProxyType({kind.name: kind for kind in _ALL})


def _draw(shares: Shares, rng: np.random.Generator) -> str | None:
    if not shares:
        return None
    weights = np.array([share for _, share in shares])
    edges = np.cumsum(weights) / weights.sum()
    return shares[int(np.searchsorted(edges, rng.random(), side="right"))][0]


def sample_garment(rng: np.random.Generator, category: str | None = None) -> Garment:
    """A random garment, its attributes drawn with the shares of its kind.

    Args:
        rng: The only source of randomness.
        category: One of `CATEGORIES` to draw from; all kinds if left out.

    Raises:
        ValueError: If ``category`` is not one of `CATEGORIES`.
    """
    kinds = [kind for kind in _ALL if category in (None, kind.category)]
    if not kinds:
        raise ValueError(f"category is {category!r}; it is one of {', '.join(CATEGORIES)}")
    name = _draw(tuple((kind.name, kind.share) for kind in kinds), rng)
    kind = KINDS[str(name)]
    colours = kind.colours or tuple(zip(COLOURS, COLOUR_SHARES, strict=True))
    colour = str(_draw(colours, rng))
    return Garment(
        garment=kind.name,
        colour=colour,
        pattern=str(_draw(kind.patterns, rng)),
        sleeve=_draw(kind.sleeves, rng),
        length=_draw(kind.lengths, rng),
        shade=sample_shade(colour, rng, denim=kind.name == "jeans"),
    )


def other_value(garment: Garment, rng: np.random.Generator) -> Garment:
    """The garment with another value of one attribute, or another kind of its category.

    Another kind keeps what it can have of the garment's attributes; the rest is drawn.
    """
    kind = KINDS[garment.garment]
    name = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
    if name == "garment":
        other = sample_garment(rng, kind.category)
        return _as_kind(garment, other, KINDS[other.garment])
    if name == "colour":
        other = sample_garment(rng, kind.category)
        allowed = dict(kind.colours) if kind.colours else None
        if allowed is not None and other.colour not in allowed:
            return garment
        shade = sample_shade(other.colour, rng, denim=kind.name == "jeans")
        return replace(garment, colour=other.colour, shade=shade)
    shares = {"pattern": kind.patterns, "sleeve": kind.sleeves, "length": kind.lengths}[name]
    value = _draw(shares, rng)
    change: dict[str, Any] = {} if value is None else {name: value}
    return replace(garment, **change)


def _as_kind(garment: Garment, other: Garment, kind: Kind) -> Garment:
    """``other``, with the attributes of ``garment`` that its kind can have."""
    kept: dict[str, Any] = {}
    shares = {"pattern": kind.patterns, "sleeve": kind.sleeves, "length": kind.lengths}
    for name, values in shares.items():
        if getattr(garment, name) in dict(values):
            kept[name] = getattr(garment, name)
    if not kind.colours or garment.colour in dict(kind.colours):
        kept |= {"colour": garment.colour, "shade": garment.shade}
    return replace(other, **kept)
