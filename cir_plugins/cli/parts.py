"""``cir list`` and ``cir show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.errors import CIRError, unknown_name

if TYPE_CHECKING:
    from cir_plugins.plugins.registry import Kind, Registry

SETTINGS = ("train", "run")


def list_parts(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="backbone, sampler, loss, method or dataset; all if left out."
        ),
    ] = "",
) -> None:
    """List the parts, and the plugins that failed."""
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.plugins.registry import KINDS, Registry

    if kind and kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    registry = Registry.load()
    table = plain_table("kind", "name", "plugin", "from")
    for offer in registry.offers(kind or None):
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
        typer.Argument(help="backbone, sampler, loss, method or dataset; or train or run alone."),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the part.")] = "",
) -> None:
    """Show the options of a part, with a method's recipe."""
    from cir_plugins.cli import describe
    from cir_plugins.plugins.registry import KINDS, Registry

    if kind in SETTINGS:
        if name:
            raise CIRError(f"'{kind}' takes no name; accepted: cir show {kind}")
        describe.show_settings(kind)
        return
    if kind not in KINDS:
        raise unknown_name("kind", kind, (*KINDS, *SETTINGS))
    registry = Registry.load()
    if not name:
        raise CIRError(f"cir show {kind} needs a name; accepted: {_names(registry, kind)}")
    describe.show_part(registry, kind, name)


def _names(registry: Registry, kind: Kind) -> str:
    return ", ".join(offer.name for offer in registry.offers(kind))
