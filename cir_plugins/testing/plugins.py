"""The contract of a whole plugin."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from cir_plugins.config.resolve import make_plan, recipe_of
from cir_plugins.config.toml import Config
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Offer, Registry, hiding_folders, is_factory
from cir_plugins.testing.contract import ContractError, calling, require, require_options
from cir_plugins.testing.methods import check_recipe
from cir_plugins.testing.offers import require_known

# A recipe's differences may be for a data set of a plugin that is not installed here.
_ALIKE = 0.8


def check_plugin(plugin: Any) -> None:
    """Check that a plugin loads beside the host's own components and declares its own as it should.

    Hooks are spelt and marked; no name is taken; every factory can be imported, and its options
    are typed and have defaults; methods have a recipe whose components, options and settings exist
    among the installed plugins' and fit together, also on each data set it has differences for;
    backbones declare what they offer. What the components do is for the checks of their kinds.

    Args:
        plugin: The module, or object, that the entry point leads to.

    Raises:
        ContractError: With what to fix.
    """
    require(not isinstance(plugin, str), f"import the plugin {plugin!r} and give its module")
    folders = hiding_folders(plugin)
    require(
        not folders,
        "the plugin is a folder that hides the package of its name, "
        f"{folders}: run the tests inside of the project's folder",
    )
    registry = Registry.load({"plugin": plugin})
    for failure in registry.failures:
        raise ContractError(f"the plugin does not load: {failure.reason}")
    everything = _beside_installed(registry)
    for offer in registry.offers():
        if offer.plugin == "plugin":
            _check_offer(everything, offer)


def _beside_installed(registry: Registry) -> Registry:
    """The registry's components and, for recipes that use them, those of the installed plugins."""
    names = {(offer.kind, offer.name) for offer in registry.offers()}
    others = [o for o in Registry.load().offers() if (o.kind, o.name) not in names]
    return Registry([*registry.offers(), *others])


def _check_offer(registry: Registry, offer: Offer) -> None:
    what = f"{offer.kind} '{offer.name}'"
    try:
        factory: Any = registry.factory(offer.kind, offer.name)
        require(is_factory(factory), f"{factory!r:.80} is no class or function that builds it")
        with calling("reading its options", "its signature"):
            require_options(factory, required=("components",) if offer.kind == "method" else ())
        if offer.kind == "method":
            check_recipe(factory)
            _check_plans(registry, offer.name, factory)
    except (CIRError, ContractError) as error:
        raise ContractError(f"{what}: {error}") from error
    if offer.kind == "backbone":
        offers = getattr(factory, "offers", None)
        if not isinstance(offers, frozenset):
            raise ContractError(
                f"{what} needs a class attribute 'offers', a frozenset that may be empty"
            )
        require_known(f"{what}: 'offers'", offers)
    require(bool((factory.__doc__ or "").strip()), f"{what} has no docstring; cir show prints it")


def _check_plans(registry: Registry, name: str, factory: Any) -> None:
    """Nothing, if the recipe can be planned: at large, and on each data set it differs for."""
    recipe = recipe_of(factory)
    readers = [offer.name for offer in registry.offers("dataset")]
    silent = next((data for data in readers if data not in recipe.datasets), readers[0])
    _plan("the recipe", registry, name, silent)
    for data, differences in recipe.datasets.items():
        near = get_close_matches(data, readers, n=1, cutoff=_ALIKE) if data not in readers else []
        require(not near, f"the recipe is for data set '{data}'; did you mean '{''.join(near)}'?")
        what = f"the recipe for {data}"
        if data in readers:
            _plan(what, registry, name, data)
            continue
        # Its reader is not installed, so that the reader's options cannot be checked.
        config: Config = {}
        for key, value in differences.items():
            table, _, option = key.partition(".")
            if table != "data":
                config.setdefault(table, {})[option] = value
        _plan(what, registry, name, silent, config)


def _plan(what: str, registry: Registry, name: str, data: str, *layers: Config) -> None:
    base: Config = {"method": {"name": name}, "data": {"name": data, "root": "."}}
    with calling("'check_compatibility'", what):
        try:
            make_plan(registry, base, *layers)
        except CIRError as error:
            raise ContractError(f"{what}: {error}") from error
