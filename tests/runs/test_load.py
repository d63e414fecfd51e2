from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cir_plugins.config.toml import Config, write_config
from cir_plugins.runs.folder import CONFIG
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.load import retarget
from dqe_plugin import hooks


@pytest.fixture
def registry() -> Registry:
    return Registry.load({"dqe": hooks})


def config(registry: Registry, folder: Path, trained: str, data: str, protocol: str) -> Config:
    """What points a run, trained on one data set in lower case, at another."""
    trained_config = {"data": {"name": trained, "lower": True}, "method": {"name": "dqe"}}
    (folder / CONFIG).write_text(write_config(trained_config))
    return retarget(registry, folder, data, Path("there"), protocol, {})


def test_options_of_evaluation_follow_the_data_set(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dqe = registry.factory("method", "dqe")
    monkeypatch.setattr(
        dqe, "recipe", replace(dqe.recipe, datasets={"circo": {"method.gate": 0.5}})
    )
    # The gate is the trained model's.
    assert "method" not in config(registry, tmp_path, "cirr", "circo", "")
    monkeypatch.setattr(dqe, "eval_only_options", frozenset({"gate"}))
    assert config(registry, tmp_path, "cirr", "circo", "")["method"] == {"gate": 0.5}
    assert config(registry, tmp_path, "circo", "cirr", "")["method"] == {"gate": 0.02}
    assert "method" not in config(registry, tmp_path, "circo", "circo", "")


@pytest.mark.parametrize(
    ("data", "protocol", "lower"),
    [
        ("cirr", "default", True),
        ("circo", "drop_reference", True),
        ("fashioniq", "original", False),
    ],
)
def test_a_protocol_sets_the_text_where_it_is_about_texts(
    registry: Registry, tmp_path: Path, data: str, protocol: str, lower: bool
) -> None:
    assert config(registry, tmp_path, data, data, protocol)["data"]["lower"] is lower
    assert config(registry, tmp_path, data, data, "")["data"]["lower"] is True


def test_options_beat_the_protocol(registry: Registry, tmp_path: Path) -> None:
    config(registry, tmp_path, "circo", "circo", "")
    given = {"drop_reference": False}
    found = retarget(registry, tmp_path, "circo", Path("x"), "drop_reference", given)
    assert found["data"]["drop_reference"] is False
    assert found["data"]["root"] == "x"
