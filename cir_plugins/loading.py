"""Retrievers of run folders (``load``) and of components by name (``build``)."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config
from cir_plugins.plugins.registry import Registry
from cir_plugins.retriever import Named, Retriever
from cir_plugins.runs.arguments import component_config
from cir_plugins.runs.build import build as build_method
from cir_plugins.runs.build import make_encoding
from cir_plugins.runs.folder import is_converted
from cir_plugins.runs.load import open_run, origin_of

# Data set whose recipe and caption rules count by default.
DATA = "fashioniq"


def load(
    folder: str | PathLike[str],
    *,
    device: str = "",
    feature_cache: str | PathLike[str] | None = None,
    progress: bool = True,
    registry: Registry | None = None,
) -> Retriever:
    """The retriever of a run folder, trained or converted, with its chosen weights.

    Args:
        folder: The run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the run's own where it is left out.
        feature_cache: Folder of cached features; the run's own where it is left out.
        progress: Whether bars are shown.
        registry: Where components come from; None for all installed plugins.

    Raises:
        CIRError: If the folder is no run, or its weights do not fit.
    """
    folder = Path(folder)
    registry = registry or Registry.load()
    run = {"device": device, "feature_cache": str(feature_cache or "")}
    overrides: Config = {"run": {key: value for key, value in run.items() if value}}
    plan, method, encoding = open_run(folder, registry, overrides=overrides, progress=progress)
    has_root = plan.root != Path() or not is_converted(folder)
    origin = origin_of(folder, plan)
    return Retriever(
        plan, method, encoding, registry, has_root=has_root, origin=origin, folder=folder
    )


def build(
    method: Named,
    *,
    backbone: Named | None = None,
    loss: Named | None = None,
    sampler: Named | None = None,
    data: Named = DATA,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
    registry: Registry | None = None,
    **options: Any,
) -> Retriever:
    """A retriever made of components by name, with the weights that its backbone brings.

    Args:
        method: Name of the method (``cir list method``).
        backbone: Name, or name and options; the recipe's where it is left out.
        loss: As ``backbone``; used in training alone.
        sampler: As ``backbone``; used in training alone.
        data: Data set whose recipe and caption rules count, or its name and reader's options.
        seed: Seed of weights that are drawn.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        progress: Whether bars are shown.
        registry: Where components come from; None for all installed plugins.
        options: Options of the method.

    Raises:
        CIRError: If a name or option is unknown, or the combination cannot work.
    """
    registry = registry or Registry.load()
    components = {"backbone": backbone, "loss": loss, "sampler": sampler, "data": data}
    config = {name: component_config(each) for name, each in components.items() if each}
    config["method"] = {**component_config(method), **options}
    has_root = "root" in config["data"]
    config["data"].setdefault("root", ".")
    # Not trained here: combinations that only training could not use are accepted.
    config["train"] = {"epochs": 0, "precision": precision}
    config["run"] = {"seed": seed, "device": device}
    return of_plan(make_plan(registry, config), registry, progress=progress, has_root=has_root)


def of_plan(
    plan: Plan, registry: Registry, *, progress: bool = True, has_root: bool = False
) -> Retriever:
    """The retriever of a plan, with the weights that its backbone brings.

    Args:
        plan: What is built.
        registry: Where components come from.
        progress: Whether bars are shown.
        has_root: Whether the plan's data folder is one that data can be read from.

    Raises:
        CIRError: If a component does not accept a value.
    """
    encoding = replace(make_encoding(plan, progress), finished=True)
    return Retriever(plan, build_method(plan, encoding), encoding, registry, has_root=has_root)
