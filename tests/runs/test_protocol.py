from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.config.toml import Config
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.protocol import retarget
from dqe_plugin import hooks


@pytest.fixture
def registry() -> Registry:
    return Registry.load({"dqe": hooks})


def aimed(registry: Registry, trained: str, data: str, protocol: str, **options: Any) -> Config:
    """What points a run, trained on one data set in lower case, at another."""
    config: Config = {
        "data": {"name": trained, "root": "here", "lower": True, "missing": "drop"},
        "method": {"name": "dqe"},
    }
    return retarget(registry, config, data, Path("there"), protocol, options)


def test_options_of_evaluation_follow_the_data_set(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    dqe = registry.factory("method", "dqe")
    monkeypatch.setattr(
        dqe, "recipe", replace(dqe.recipe, datasets={"circo": {"method.gate": 0.5}})
    )
    # The gate is the trained model's.
    assert "method" not in aimed(registry, "cirr", "circo", "")
    monkeypatch.setattr(dqe, "eval_only_options", frozenset({"gate"}))
    assert aimed(registry, "cirr", "circo", "")["method"] == {"gate": 0.5}
    assert aimed(registry, "circo", "cirr", "")["method"] == {"gate": 0.02}
    assert "method" not in aimed(registry, "circo", "circo", "")


@pytest.mark.parametrize(
    ("data", "protocol", "lower"),
    [
        ("cirr", "default", True),
        ("circo", "drop_reference", True),
        ("fashioniq", "original", False),
    ],
)
def test_a_protocol_sets_only_the_text_it_names(
    registry: Registry, data: str, protocol: str, lower: bool
) -> None:
    assert aimed(registry, data, data, protocol)["data"]["lower"] is lower
    assert aimed(registry, data, data, "")["data"]["lower"] is True


def test_options_beat_the_protocol(registry: Registry) -> None:
    aimed_config = aimed(registry, "circo", "circo", "drop_reference", drop_reference=False)
    assert aimed_config["data"]["drop_reference"] is False
    assert aimed_config["data"]["root"] == "there"


def test_a_protocol_leaves_which_data_is_read(registry: Registry) -> None:
    """A run on one category was evaluated on all five, under the protocol of its own evaluation."""
    config: Config = {
        "data": {
            "name": "fashioniq",
            "root": "here",
            "categories": ["dress"],
            "missing": "drop",
            "images": "pictures",
            "gallery": "merged",
            "drop_reference": True,
        },
        "method": {"name": "dqe"},
    }
    data_options = retarget(registry, config, "fashioniq", "here", "original", {})["data"]
    names = ("categories", "missing", "images")
    assert [data_options[name] for name in names] == [["dress"], "drop", "pictures"]
    assert (data_options["gallery"], data_options["drop_reference"]) == ("original", False)
    assert aimed(registry, "cirr", "cirr", "default")["data"]["missing"] == "drop"
