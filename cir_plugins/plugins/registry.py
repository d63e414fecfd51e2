"""The components that plugins offer: where each comes from, and which plugins did not load."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, Literal, get_args

import pluggy

from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.plugins import hookspecs
from cir_plugins.plugins.guard import SLOW_MODEL_SECONDS, announced, guarded, reason_of
from cir_plugins.plugins.hookspecs import ENTRY_POINT_GROUP

Kind = Literal["backbone", "sampler", "loss", "method", "dataset", "generator", "index"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# The host's own components come through the same hooks.
DEFAULT_PLUGINS: Mapping[str, str] = MappingProxyType({"builtin": "cir_plugins.builtin"})
_HOOKS: Mapping[Kind, str] = MappingProxyType(
    {
        "backbone": "cir_backbones",
        "sampler": "cir_samplers",
        "loss": "cir_losses",
        "method": "cir_methods",
        "dataset": "cir_datasets",
        "generator": "cir_generators",
        "index": "cir_indexes",
    }
)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Offer:
    """A component as a plugin offers it.

    Attributes:
        kind: What it is.
        name: The name users give.
        plugin: Name of the plugin.
        target: The factory, or the ``"module:attribute"`` string that leads to it.
    """

    kind: Kind
    name: str
    plugin: str
    target: Callable[..., Any] | str

    @property
    def where(self) -> str:
        """``module:attribute`` of the factory."""
        if isinstance(self.target, str):
            return self.target
        name = getattr(self.target, "__qualname__", type(self.target).__qualname__)
        return f"{self.target.__module__}:{name}"


@dataclass(frozen=True)
class Failure:
    """A plugin that was left out, and why."""

    plugin: str
    reason: str


class Registry:
    """All components by kind and name. An object that is handed down, never a global.

    Args:
        offers: Components, no two of one kind with the same name.
        failures: Plugins that were left out.
    """

    def __init__(self, offers: Sequence[Offer], failures: Sequence[Failure] = ()) -> None:
        self.failures = tuple(failures)
        self._offers = {(offer.kind, offer.name): offer for offer in offers}

    @classmethod
    def load(cls, plugins: Mapping[str, object] | None = None) -> Registry:
        """The registry of the built-in components and of all installed plugins.

        Args:
            plugins: Name -> module or object with hook implementations, in place of the installed
                plugins (for tests); the built-in components are always there.
        """
        manager = pluggy.PluginManager("cir_plugins")
        manager.add_hookspecs(hookspecs)
        collected = _Collected()
        for name, module in DEFAULT_PLUGINS.items():
            collected.add(manager, name, importlib.import_module(module))
        if plugins is not None:
            for name, plugin in plugins.items():
                collected.add(manager, name, plugin)
            return cls(collected.offers, collected.failures)
        for entry in sorted(
            importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name
        ):
            try:
                with announced(f"plugin '{entry.name}' ({entry.value})"):
                    plugin = entry.load()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plugin's import harms itself only
                collected.fail(entry.name, _hidden(entry.module, error) or error)
                continue
            collected.add(manager, entry.name, plugin)
        return cls(collected.offers, collected.failures)

    def offers(self, kind: Kind | None = None) -> list[Offer]:
        """The components of one kind, or all, by kind and name."""
        offers = [offer for offer in self._offers.values() if kind in (None, offer.kind)]
        return sorted(offers, key=lambda offer: (KINDS.index(offer.kind), offer.name))

    def offer(self, kind: Kind, name: str) -> Offer:
        """The component of this kind and name.

        Raises:
            CIRError: If there is none: nearest names, all names, plugins that did not load.
        """
        if (kind, name) not in self._offers:
            failed = "; ".join(f"{failure.plugin} ({failure.reason})" for failure in self.failures)
            hint = f"plugins that did not load: {failed}" if failed else ""
            names = [offer.name for offer in self.offers(kind)]
            raise unknown_name(kind, name, names, hint=hint)
        return self._offers[kind, name]

    def factory(self, kind: Kind, name: str) -> Callable[..., Any]:
        """The factory of a component, imported if need be.

        Raises:
            CIRError: If the name is unknown, or its plugin's code cannot be imported.
        """
        offer = self.offer(kind, name)
        if not isinstance(offer.target, str):
            return offer.target
        module, _, attribute = offer.target.partition(":")
        what = f"{kind} '{name}' of plugin '{offer.plugin}'"
        with (
            guarded(f"{what} cannot be imported from '{offer.target}'"),
            announced(f"{what} ({offer.target})", SLOW_MODEL_SECONDS),
        ):
            factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
            if not is_factory(factory):
                raise CIRError(
                    f"{what}: '{offer.target}' is {type(factory).__name__}, not a factory"
                )
        return factory


def is_factory(target: object) -> bool:
    """Whether a class or function: what is built already has no options that could be read."""
    return inspect.isclass(target) or inspect.isroutine(target)


def hiding_folders(plugin: object) -> list[str]:
    """The folders that stand for a package because its own code was not found; mostly none.

    Beside a project the folder of its name is found before the installed package, and is an empty
    package without a file.
    """
    if not isinstance(plugin, ModuleType) or getattr(plugin, "__file__", None) is not None:
        return []
    return [str(folder) for folder in getattr(plugin, "__path__", [])]


class _Collected:
    """Components and failures, collected plugin by plugin; a plugin is in whole or not at all."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.failures: list[Failure] = []

    def fail(self, name: str, error: BaseException) -> None:
        self.failures.append(Failure(name, reason_of(error)))

    def add(self, manager: pluggy.PluginManager, name: str, plugin: object) -> None:
        try:
            _check_plugin(manager, name, plugin)
            manager.register(plugin, name)
            manager.check_pending()
            self.offers.extend(self._offers_of(manager, name, plugin))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's hook may raise anything; name it and go on
            self.fail(name, error)
            # pluggy leaves a half-registered plugin in; taking it out keeps later checks clean.
            if manager.get_plugin(name) is plugin:
                manager.unregister(name=name)

    def _offers_of(self, manager: pluggy.PluginManager, name: str, plugin: object) -> list[Offer]:
        owners = {(offer.kind, offer.name): offer for offer in self.offers}
        offers: list[Offer] = []
        hooks = 0
        for kind, hook in _HOOKS.items():
            for implementation in getattr(manager.hook, hook).get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                hooks += 1
                for component, target in _factories(hook, implementation.function()).items():
                    if (kind, component) in owners:
                        owner = owners[kind, component]
                        raise CIRError(
                            f"{kind} '{component}' is taken by plugin '{owner.plugin}' "
                            f"({owner.where})"
                        )
                    offer = Offer(kind, component, name, target)
                    _ = offer.where  # so that a factory without a name is left out, too
                    offers.append(offer)
        if not hooks:
            raise CIRError(f"it implements no hook; accepted: {', '.join(_HOOKS.values())}")
        return offers


def _hidden(module: str, error: BaseException) -> CIRError | None:
    """The error for an entry point whose module a folder hides, or None."""
    package = module.partition(".")[0]
    folders = hiding_folders(sys.modules.get(package))
    if isinstance(error, ModuleNotFoundError):
        lacking = f"{module}.".startswith(f"{error.name}.")
    else:
        lacking = isinstance(error, AttributeError) and error.obj is sys.modules.get(module)
    return _hides(folders, package) if folders and lacking else None


def _hides(folders: Sequence[str], package: str) -> CIRError:
    return CIRError(
        f"folder {', '.join(folders)} hides the package '{package}'; start from another folder"
    )


def _factories(hook: str, factories: object) -> Mapping[str, Callable[..., Any] | str]:
    if not isinstance(factories, Mapping):
        raise CIRError(f"{hook} must return a mapping, not {type(factories).__name__}")
    for name, target in factories.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CIRError(
                f"{hook}: {name!r} is no name; accepted: lower-case letters, digits and underscores"
            )
        if isinstance(target, str) and target.count(":") != 1:
            raise CIRError(f"{hook}: '{name}' must lead to 'module:attribute', not '{target}'")
        if not isinstance(target, str) and not is_factory(target):
            raise CIRError(
                f"{hook}: '{name}' must be a factory or a string, not {target!r}; a factory is a "
                "class or a function, which the host calls with the component's options"
            )
    return factories


def _check_plugin(manager: pluggy.PluginManager, name: str, plugin: object) -> None:
    """Errors for what pluggy would take silently, or with a message that names no way out."""
    folders = hiding_folders(plugin)
    if folders:
        raise _hides(folders, getattr(plugin, "__name__", name))
    if manager.has_plugin(name):
        raise CIRError(
            f"another plugin is called '{name}' too; entry points need names of their own"
        )
    if manager.is_registered(plugin):
        raise CIRError(f"it is the same object as plugin '{manager.get_name(plugin)}'")
    for attribute in dir(plugin):
        member = getattr(plugin, attribute, None)
        if not inspect.isroutine(member):
            continue
        marker = getattr(member, "cir_plugins_impl", None)
        hook = (marker or {}).get("specname") or attribute
        if (marker is not None or attribute.startswith("cir_")) and hook not in _HOOKS.values():
            raise unknown_name("hook", hook, _HOOKS.values())
        if marker is None and attribute.startswith("cir_"):
            raise CIRError(f"'{attribute}' lacks the marker: put @hookimpl above it")
