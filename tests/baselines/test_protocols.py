from __future__ import annotations

import pytest

from cir_plugins.config.resolve import make_plan
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.protocol import protocol_of

# The preset of the reader that a recipe is on FashionIQ.
PROTOCOLS = {
    "val": "val_repo",
    "composeae": "composeae",
    "cosmo": "cosmo_repo",
    "mgur": "mgur",
    "clip4cir": "clip4cir",
    "bi_blip4cir": "clip4cir",  # the same switches: its tags are the method's
    "covr": "covr",
    "covr2": "covr",
    "sprc": "sprc",
    "qure": "qure",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.mark.parametrize("method", PROTOCOLS)
def test_recipes_have_their_repositorys_protocol(registry: Registry, method: str) -> None:
    config = {"method": {"name": method}, "data": {"name": "fashioniq", "root": "somewhere"}}
    plan = make_plan(registry, config)
    assert protocol_of(plan) == PROTOCOLS[method]
    assert plan.train.known_positives == "target"


def test_qure_mines_among_the_training_targets(registry: Registry) -> None:
    config = {"method": {"name": "qure"}, "data": {"name": "fashioniq", "root": "somewhere"}}
    assert make_plan(registry, config).mining.from_images == "targets"
    cirr = {**config, "data": {"name": "cirr", "root": "somewhere"}}
    assert make_plan(registry, cirr).mining.from_images == "gallery"


@pytest.mark.parametrize(
    ("method", "data", "score"),
    [("covr2", "cirr", "max"), ("covr2", "circo", "mean"), ("covr2", "fashioniq", "mean")],
)
def test_covr2_scores_by_data_set(registry: Registry, method: str, data: str, score: str) -> None:
    config = {"method": {"name": method}, "data": {"name": data, "root": "somewhere"}}
    assert make_plan(registry, config).method.options["score"] == score
