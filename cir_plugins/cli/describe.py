"""What ``cir show`` prints of a component or a table of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cir_plugins.cli.terminal import make_console, plain_table
from cir_plugins.config.resolve import plan_component, recipe_of
from cir_plugins.config.settings import SETTINGS, Component, Recipe
from cir_plugins.plugins.declarations import (
    CODE_LICENCES,
    NEEDS,
    OFFERS,
    PROTOCOLS,
    WEIGHTS_LICENCES,
)
from cir_plugins.plugins.options import Option, described_options

if TYPE_CHECKING:
    from rich.table import Table

    from cir_plugins.plugins.registry import Kind, Registry

_SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:")


def show_settings(table: str) -> None:
    """Print the options of a table of settings, such as ``train`` or ``mining``."""
    kind = SETTINGS[table]
    console = make_console()
    console.print(f"[{table}]  {description(kind)}\n")
    console.print(option_table(kind.options(), table))


def show_component(registry: Registry, kind: Kind, name: str) -> None:
    """Print what a component is, its options, and what its class declares.

    Raises:
        CIRError: If there is no such component, or its factory is faulty.
    """
    offer = registry.offer(kind, name)
    factory = plan_component(registry, kind, name, {}).factory
    options = described_options(factory)
    table = "data" if kind == "dataset" else kind
    console = make_console()
    console.print(f"{kind} {name}, plugin {offer.plugin}, {offer.where}\n")
    console.print(description(factory))
    if options:
        console.print()
        console.print(option_table(options, table))
    else:
        console.print("\nno options")
    for line in _more(kind, factory):
        console.print(line)
    declaration = WEIGHTS_LICENCES if kind == "backbone" else CODE_LICENCES
    licences = declaration.of(factory) if kind == declaration.kind else ()
    if licences:
        console.print("\nlicences, as their owners write them; no legal advice")
        rows = plain_table("of", "licence", "commercial use", "source")
        for each in licences:
            rows.add_row(each.of, each.name, each.commercial, each.source)
        console.print(rows)


def option_table(options: Mapping[str, Option], table: str) -> Table:
    """A table of options with type, default and text."""
    rows = plain_table("option", "accepted", "default", "what it does")
    for option in options.values():
        name = f"{table}.{option.name}"
        rows.add_row(name, option.accepted, as_toml(option.default), option.text)
    return rows


def description(factory: Callable[..., Any]) -> str:
    """A docstring without its sections of arguments and errors, sources kept."""
    lines: list[str] = []
    inside = False
    for line in (inspect.getdoc(factory) or "").splitlines():
        if line.strip() in _SECTIONS:
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = False
        if not inside:
            lines.append(line)
    return "\n".join(lines).strip()


def as_toml(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _more(kind: Kind, factory: Callable[..., Any]) -> Iterator[str]:
    if kind == "method":
        yield from _recipe(recipe_of(factory))
    for declaration in (NEEDS, OFFERS):
        names = declaration.of(factory)
        if names:
            yield f"\n{declaration.name}: {', '.join(sorted(names))}"
    protocols = PROTOCOLS.of(factory)
    if protocols:
        yield "\nprotocols (cir eval --protocol NAME)"
        for name, options in protocols.items():
            switches = ", ".join(f"{key}={as_toml(value)}" for key, value in options.items())
            yield f"  {name}: {switches or 'the defaults'}"


def _recipe(recipe: Recipe) -> Iterator[str]:
    yield f"\nrecipe, from: {recipe.source}"
    for key, value in recipe.options.items():
        yield f"  method.{key} = {as_toml(value)}"
    for kind, component in (
        ("backbone", recipe.backbone),
        ("loss", recipe.loss),
        ("sampler", recipe.sampler),
    ):
        yield f"  {kind} = {_component(component)}"
    for table, settings in recipe.settings().items():
        default = type(settings)()
        for key, value in settings.model_dump().items():
            if value != getattr(default, key):
                yield f"  {table}.{key} = {as_toml(value)}"
    for data, differences in recipe.datasets.items():
        for key, value in differences.items():
            yield f"  on {data}: {key} = {as_toml(value)}"


def _component(component: Component) -> str:
    options = ", ".join(f"{key}={as_toml(value)}" for key, value in component.options.items())
    return f"{component.name} ({options})" if options else component.name
