"""Drawn garments: a composed retrieval set of any size, made without a download.

`sample_garment` and `draw_garment` give one picture at a time; `write_garments` writes a whole
set in FashionIQ's layout, `write_look_alikes` one in CIRR's. Names are resolved on first use, so
importing this costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garments_plugin.draw import draw_garment
    from garments_plugin.kinds import Garment, sample_garment
    from garments_plugin.look_alikes import write_look_alikes
    from garments_plugin.triplets import Triplet, changed_attributes
    from garments_plugin.write import Summary, write_garments

__all__ = [
    "Garment",
    "Summary",
    "Triplet",
    "changed_attributes",
    "draw_garment",
    "sample_garment",
    "write_garments",
    "write_look_alikes",
]

_HOMES = MappingProxyType(
    {
        "Garment": "kinds",
        "Summary": "write",
        "Triplet": "triplets",
        "changed_attributes": "triplets",
        "draw_garment": "draw",
        "sample_garment": "kinds",
        "write_garments": "write",
        "write_look_alikes": "look_alikes",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
