from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cir_plugins.builtin
from cir_plugins import Component, Method, Recipe, hookimpl
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.testing import ContractError, check_plugin


def untyped(*, size=3):  # type: ignore[no-untyped-def]
    """A part."""
    return size


def silent(*, size: int = 3) -> int:
    return size


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:X", "sampler 'mine': .* cannot be imported"),
        (untyped, "sampler 'mine': options: option 'size' of .* has no type"),
        (silent, "sampler 'mine' has no docstring"),
        (InBatch.__call__, "parameter 'self' of .* needs a default"),
    ],
)
def test_a_broken_plugin_contract_is_named(target: Any, message: str) -> None:
    @hookimpl
    def cir_samplers() -> Any:
        return {"mine": target}

    with pytest.raises(ContractError, match=message):
        check_plugin(SimpleNamespace(cir_samplers=cir_samplers))


def test_a_plugin_that_does_not_load_is_named() -> None:
    with pytest.raises(ContractError, match="the plugin does not load: backbone 'clip' is taken"):
        check_plugin(SimpleNamespace(cir_backbones=cir_plugins.builtin.cir_backbones))


def test_a_string_and_a_hiding_folder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a project the folder of its name is found first, and has no hook."""
    with pytest.raises(ContractError, match="import the plugin 'mine' and give its module"):
        check_plugin("mine")
    (tmp_path / "hiding_project").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ContractError, match=r"a folder that hides .*hiding_project.* inside of the"
    ):
        check_plugin(import_module("hiding_project"))


def with_method(recipe: Recipe, **members: Any) -> SimpleNamespace:
    """A plugin of one method with this recipe."""
    made = type("Made", (Method,), {"recipe": recipe, "__doc__": "A method.", **members})

    @hookimpl
    def cir_methods() -> Any:
        return {"made": made}

    return SimpleNamespace(cir_methods=cir_methods)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            with_method(Recipe("nobody", loss=Component("infonce"))),
            "method 'made': the recipe: unknown loss 'infonce'; nearest: info_nce",
        ),
        (
            with_method(Recipe("nobody", backbone=Component("tiny_blp2"))),
            "the recipe: unknown backbone 'tiny_blp2'; nearest: tiny_blip2",
        ),
        (
            with_method(Recipe("nobody", sampler=Component("target_relative", {"uper": 0.3}))),
            "the recipe: unknown sampler 'target_relative' option 'uper'; nearest: upper",
        ),
        (
            with_method(Recipe("nobody", datasets={"cirr": {"train.epohs": 3}})),
            r"the recipe's settings for cirr: unknown \[train\] option 'epohs'; nearest: epochs",
        ),
        (
            with_method(Recipe("nobody", datasets={"cirr": {"data.splts": ["val"]}})),
            "the recipe for cirr: unknown dataset 'cirr' option 'splts'; nearest: splits",
        ),
        (
            with_method(Recipe("nobody", datasets={"fashoniq": {"train.epochs": 3}})),
            "the recipe is for data set 'fashoniq'; did you mean 'fashioniq'",
        ),
        (
            with_method(Recipe("nobody", datasets={"not_installed": {"loss.size": 3}})),
            "the recipe for not_installed: unknown loss 'info_nce' option 'size'",
        ),
        (
            with_method(
                Recipe("nobody", backbone=Component("clip")), needs=frozenset({"query_tokens"})
            ),
            "the recipe: method 'made' needs query_tokens, which backbone 'clip' does not offer",
        ),
        (
            with_method(Recipe("nobody"), needs=frozenset({"query_token"})),
            "'needs' names 'query_token'; did you mean 'query_tokens'",
        ),
        (
            with_method(
                Recipe("nobody"), check_compatibility=staticmethod(lambda plan: plan.nothing)
            ),
            "the recipe: method 'made' of plugin .* cannot be checked: AttributeError: 'Plan'",
        ),
    ],
)
def test_a_recipe_that_cannot_be_planned_is_named(plugin: Any, message: str) -> None:
    """A misspelt name in a recipe would meet the author's first user, not the author."""
    with pytest.raises(ContractError, match=message):
        check_plugin(plugin)


def test_a_recipe_may_name_what_is_not_here() -> None:
    sampler = Component("target_relative", {"upper": 0.3})
    differences = {"not_installed": {"train.epochs": 3, "data.whole": True}, "cirr": {}}
    check_plugin(with_method(Recipe("nobody", sampler=sampler, datasets=differences)))


def test_built_components_and_misspelt_offers_are_named() -> None:
    class Offering:
        """A backbone."""

        offers = frozenset({"image_embeding"})

    @hookimpl
    def cir_backbones() -> Any:
        return {"mine": Offering}

    @hookimpl
    def cir_samplers() -> Any:
        return {"mine": InBatch()}

    with pytest.raises(ContractError, match="'image_embeding'; did you mean 'image_embedding'"):
        check_plugin(SimpleNamespace(cir_backbones=cir_backbones))
    with pytest.raises(ContractError, match="'mine' must be a factory or a string, not <"):
        check_plugin(SimpleNamespace(cir_samplers=cir_samplers))
