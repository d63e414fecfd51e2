"""The reference names everything that is public, so that nobody has to search the sources."""

from __future__ import annotations

from pathlib import Path

import pytest

import cir_plugins
from cir_plugins import Registry, testing

API = Path(__file__).parents[1] / "docs" / "api"


def entries(page: str) -> set[str]:
    """What a page asks the docstrings of."""
    lines = (API / page).read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("::: ") for line in lines if line.startswith("::: ")}


def test_every_public_name_of_the_host_is_in_the_reference() -> None:
    homes = {name: home for home, names in cir_plugins._HOMES.items() for name in names}
    assert entries("host.md") == {f"cir_plugins.{homes[n]}.{n}" for n in cir_plugins.__all__}


def test_every_check_is_in_the_reference() -> None:
    wanted = {f"{getattr(testing, name).__module__}.{name}" for name in testing.__all__}
    assert entries("testing.md") == wanted


@pytest.mark.parametrize("kind", ["method", "backbone", "sampler", "loss", "dataset"])
def test_every_part_is_in_the_reference(kind: str) -> None:
    registry = Registry.load()
    known = entries("parts.md") | entries("host.md") | entries("dqe.md")
    ours = ("cir_plugins.", "dqe_plugin.", "baselines_plugin.")
    missing = []
    for offer in registry.offers(kind):  # type: ignore[arg-type]
        factory = registry.factory(offer.kind, offer.name)
        path = f"{factory.__module__}.{factory.__qualname__}"
        if path.startswith(ours) and not {path, factory.__module__} & known:
            missing.append(path)
    assert not missing
