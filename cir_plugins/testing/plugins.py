"""The contract of a whole plugin."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from cir_plugins.errors import CIRError
from cir_plugins.registry import Offer, Registry
from cir_plugins.testing.contract import ContractError, require, require_options
from cir_plugins.testing.methods import check_recipe


def check_plugin(plugin: Any) -> None:
    """Check that a plugin loads beside the host's own parts and declares its parts as it should.

    Hooks are spelt and marked; no name is taken; every factory can be imported, and its options
    are typed and have defaults; methods have a recipe, backbones say what they offer. What the
    parts do is for the checks of their kinds.

    Args:
        plugin: The module, or object, that the entry point leads to.

    Raises:
        ContractError: With what to fix.
    """
    require(not isinstance(plugin, str), f"import the plugin {plugin!r} and give its module")
    folder = isinstance(plugin, ModuleType) and getattr(plugin, "__file__", None) is None
    require(
        not folder,
        "the plugin is a folder that hides the package of its name, "
        f"{list(getattr(plugin, '__path__', []))}: run the tests inside of the project's folder",
    )
    registry = Registry.load({"plugin": plugin})
    for failure in registry.failures:
        raise ContractError(f"the plugin does not load: {failure.reason}")
    for offer in registry.offers():
        if offer.plugin == "plugin":
            _check_offer(registry, offer)


def _check_offer(registry: Registry, offer: Offer) -> None:
    what = f"{offer.kind} '{offer.name}'"
    try:
        factory: Any = registry.factory(offer.kind, offer.name)
        if offer.kind == "method":
            check_recipe(factory)
        else:
            require_options(factory)
    except (CIRError, ContractError) as error:
        raise ContractError(f"{what}: {error}") from error
    if offer.kind == "backbone":
        offers = getattr(factory, "offers", None)
        require(
            isinstance(offers, frozenset),
            f"{what} needs a class attribute 'offers', a frozenset that may be empty",
        )
    require(bool((factory.__doc__ or "").strip()), f"{what} has no docstring; cir show prints it")
