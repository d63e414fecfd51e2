"""``cir list`` and ``cir show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.config.toml import SETTINGS_TABLES
from cir_plugins.errors import CIRError, unknown_name

if TYPE_CHECKING:
    from cir_plugins.plugins.registry import Kind

_KINDS = "backbone, sampler, loss, method, dataset, generator or index, also in the plural"


def list_components(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{_KINDS}; all if left out.")] = "",
) -> None:
    """List the components, and the plugins that did not load."""
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.plugins.registry import KINDS, Registry

    singular = _singular(kind)
    if kind and singular is None:
        raise unknown_name("kind", kind, KINDS)
    registry = Registry.load()
    table = plain_table("kind", "name", "plugin", "from")
    for offer in registry.offers(singular):
        table.add_row(offer.kind, offer.name, offer.plugin, offer.where)
    console = make_console()
    console.print(table)
    if registry.failures:
        console.print("plugins that did not load, and why:")
        for failure in registry.failures:
            console.print(f"  {failure.plugin}: " + failure.reason.replace("\n", "\n    "))


def show(
    kind: Annotated[
        str,
        typer.Argument(
            help=f"{_KINDS}; or a table of settings alone: {', '.join(SETTINGS_TABLES)}."
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the component.")] = "",
) -> None:
    """Show the options of a component, with a method's recipe, or of a table of settings."""
    from cir_plugins.cli import describe
    from cir_plugins.plugins.registry import KINDS, Registry

    if kind in SETTINGS_TABLES:
        if name:
            raise CIRError(f"'{kind}' takes no name; accepted: cir show {kind}")
        describe.show_settings(kind)
        return
    singular = _singular(kind)
    if singular is None:
        raise unknown_name("kind", kind, (*KINDS, *SETTINGS_TABLES))
    registry = Registry.load()
    if not name:
        names = ", ".join(offer.name for offer in registry.offers(singular))
        raise CIRError(f"cir show {kind} needs a name; accepted: {names}")
    describe.show_component(registry, singular, name)


def _singular(word: str) -> Kind | None:
    """The kind that a word names, in the singular or the plural; None for no kind."""
    from cir_plugins.plugins.registry import KINDS

    for kind in KINDS:
        if word in (kind, f"{kind}es" if kind.endswith(("s", "x")) else f"{kind}s"):
            return kind
    return None
