"""Our own components keep the contracts that third parties are held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cir_plugins import Recipe
from cir_plugins.data.readers.circo import CIRCO
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.data.readers.triplets import Triplets
from cir_plugins.plugins.registry import Kind, Registry
from cir_plugins.testing import (
    check_backbone,
    check_loss,
    check_method,
    check_plugin,
    check_reader,
    check_sampler,
)
from tests.layouts import small_circo, small_cirr, small_fashioniq, small_triplets

REGISTRY = Registry.load()
# Backbones that need no download, started at random, which every checkout can do.
TINY: dict[str, dict[str, Any]] = {
    "tiny_clip": {"tower": "frozen"},
    "tiny_blip2": {"vision": "frozen"},
    "tiny_blip": {"vision": "frozen"},
}


def names(kind: Kind) -> list[str]:
    return [offer.name for offer in REGISTRY.offers(kind)]


def build(kind: Kind, name: str, **options: Any) -> Any:
    return REGISTRY.factory(kind, name)(**options)


@pytest.fixture(scope="module")
def backbones() -> dict[str, Any]:
    return {name: build("backbone", name, start="random") for name in TINY}


def test_no_plugin_of_this_repository_fails_to_load() -> None:
    assert REGISTRY.failures == ()


@pytest.mark.parametrize("name", names("sampler"))
def test_samplers(name: str) -> None:
    for seed in range(3):
        check_sampler(build("sampler", name), seed=seed)


@pytest.mark.parametrize("name", names("loss"))
def test_losses(name: str) -> None:
    for seed in range(3):
        check_loss(build("loss", name), seed=seed)


@pytest.mark.parametrize("name", TINY)
def test_backbones(name: str, backbones: dict[str, Any]) -> None:
    check_backbone(backbones[name])
    check_backbone(build("backbone", name, start="random", **TINY[name]))


@pytest.mark.parametrize("name", names("method"))
def test_methods(name: str, backbones: dict[str, Any]) -> None:
    method = REGISTRY.factory("method", name)
    able = [one for one in backbones.values() if method.needs <= one.offers]
    if not able:
        pytest.skip(f"no tiny backbone offers {', '.join(sorted(method.needs))}")
    recipe: Recipe = method.recipe
    for backbone in able:
        check_method(
            method,
            backbone,
            loss=build("loss", recipe.loss.name, **recipe.loss.options),
            sampler=build("sampler", recipe.sampler.name, **recipe.sampler.options),
        )


@pytest.mark.parametrize(
    ("reader", "write"),
    [
        (FashionIQ(), small_fashioniq),
        (FashionIQ(gallery="merged", caption_mode="both_orders"), small_fashioniq),
        (FashionIQ(gallery="val", drop_reference=True), small_fashioniq),
        (CIRR(), small_cirr),
        (CIRCO(), small_circo),
        (Triplets(), small_triplets),
        (Triplets(split="", gallery="folder", caption_mode="single"), small_triplets),
    ],
)
def test_readers(reader: Any, write: Callable[[Path], Path], tmp_path: Path) -> None:
    check_reader(reader, write(tmp_path / "set"))


def test_a_drawn_set_keeps_the_readers_contract(garments_root: Path) -> None:
    check_reader(FashionIQ(), garments_root)


def test_plugins() -> None:
    import dqe_plugin.hooks

    check_plugin(dqe_plugin.hooks)
