"""Licences of the official code of each method, as its repository states them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cir_plugins import Licence

HERE = Licence("this implementation", "MIT", "yes", "the file LICENSE of cir-plugins")
_REMARKS = "docs/methods.md"


def _of(name: str, commercial: str, repository: str) -> tuple[Licence, ...]:
    code = Licence("official code", name, commercial, f"https://github.com/{repository}")  # type: ignore[arg-type]
    return (HERE, code)


LICENCES: Mapping[str, tuple[Licence, ...]] = MappingProxyType(
    {
        "tirg": _of("Apache-2.0", "yes", "google/tirg"),
        "val": _of("Apache-2.0", "yes", "yanbeic/VAL"),
        "composeae": _of("Apache-2.0", "yes", "ecom-research/ComposeAE"),
        "cosmo": _of("may not be re-used", "no", "postech-ami/CoSMo.pytorch"),
        "clip4cir": _of("MIT", "yes", "ABaldrati/CLIP4Cir"),
        "bi_blip4cir": _of("MIT", "yes", "Cuberick-Orion/Bi-Blip4CIR"),
        "covr": _of("MIT", "yes", "lucas-ventura/CoVR"),
        "mgur": (
            HERE,
            Licence("official code", "MIT, over modules of CoSMo", "unclear", _REMARKS),
        ),
        "qure": (HERE, Licence("official code", "none", "no", _REMARKS)),
        "sprc": _of("none", "no", "chunmeifeng/SPRC"),
    }
)
