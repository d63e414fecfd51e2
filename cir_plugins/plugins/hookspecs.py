"""The seven hooks a plugin may implement, and the marker to implement them with.

Each hook takes nothing and returns a mapping from a component's name to its factory, or to a
``"module:attribute"`` string that is resolved on first use, so that listing components
loads nothing heavy. A factory's keyword parameters, typed and with defaults, are the options of
the component.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pluggy

ENTRY_POINT_GROUP = "cir_plugins"

hookspec = pluggy.HookspecMarker("cir_plugins")
hookimpl = pluggy.HookimplMarker("cir_plugins")
"""Marks a function of a plugin's module as one of the hooks below."""

Factories: TypeAlias = Mapping[str, Callable[..., Any] | str]
"""What a hook returns: a name to a factory, or to ``"module:attribute"``, imported on first use."""


@hookspec
def cir_backbones() -> Factories:  # type: ignore[empty-body]
    """Backbones: images and texts to embeddings (``cir_plugins.types.Backbone``)."""


@hookspec
def cir_samplers() -> Factories:  # type: ignore[empty-body]
    """Samplers: which candidates are negatives (``cir_plugins.types.Sampler``)."""


@hookspec
def cir_losses() -> Factories:  # type: ignore[empty-body]
    """Losses: a per-query loss (``cir_plugins.types.Loss``)."""


@hookspec
def cir_methods() -> Factories:  # type: ignore[empty-body]
    """Methods: classes derived from ``cir_plugins.method.Method`` with a recipe."""


@hookspec
def cir_datasets() -> Factories:  # type: ignore[empty-body]
    """Readers: a folder to a list of splits (``cir_plugins.data.readers``)."""


@hookspec
def cir_generators() -> Factories:  # type: ignore[empty-body]
    """Generators of data sets (``cir_plugins.types.Generator``): ``cir make-data NAME``."""


@hookspec
def cir_indexes() -> Factories:  # type: ignore[empty-body]
    """Search backends of an index (``cir_plugins.types.IndexBackend``): ``cir index``."""
