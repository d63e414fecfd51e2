"""Components for suites that run in a second, failing methods, and made-up results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from cir_plugins.bench.records import RunRecord, SuiteResult
from cir_plugins.bench.results import document
from cir_plugins.bench.suite import Suite, SuiteEntry
from cir_plugins.builtin.methods import ImageOnly
from cir_plugins.config.settings import Component, Recipe, TrainSettings
from cir_plugins.data.split import Split
from cir_plugins.method import Components, Method
from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.plugins.registry import Registry
from cir_plugins.types import Batch
from dqe_plugin import hooks as dqe_hooks
from garments_plugin import hooks as garments_hooks
from tests.fakes import FakeBackbone, made_up_split

ENVIRONMENT = {
    "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "gpu": None},
    "versions": {"python": "3.11.0", "torch": "2.6.0", "cir_plugins": "0.1.0"},
    "commit": "abc123",
}
RUN = {"device": "cpu", "workers": 0}
SUITE = """
seeds = [0, 1]
show = ["any_recall@1"]

[data]
name = "fashioniq"
gallery = "merged"

[defaults]
backbone = "fake"
train = { epochs = 2, lr = 0.01, batch_size = 16 }

[[rows]]
method = "contrastive"

[[rows]]
method = "dqe"

[[rows]]
method = "broken"

[[rows]]
label = "no such option"
method = "contrastive"
train = { epoch = 3 }

[[rows]]
label = "image only"
method = "image_only"
"""


class Broken(Method):
    """Raises what a bug in a plugin might."""

    recipe = Recipe(source="a test", backbone=Component("fake"), train=TrainSettings(epochs=1))

    def __init__(self, components: Components) -> None:
        super().__init__(components)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing: it fails."""
        raise RuntimeError("out of memory in /home/somebody/plugin.py\nsecond line")


class Interrupted(Broken):
    """Is stopped from the keyboard."""

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing: it is stopped."""
        raise KeyboardInterrupt


class TwoTexts(ImageOnly):
    """Has two queries of each triplet, one per order of its captions."""

    recipe = replace(ImageOnly.recipe, datasets={"fashioniq": {"data.caption_mode": "both_orders"}})


def registry() -> Registry:
    """The built-in components, DQE's, and those of the tests."""

    @hookimpl
    def cir_backbones() -> Mapping[str, Callable[..., Any]]:
        return {"fake": FakeBackbone}

    @hookimpl
    def cir_methods() -> Mapping[str, Callable[..., Any]]:
        return {"broken": Broken, "interrupted": Interrupted, "two_texts": TwoTexts}

    plugin = SimpleNamespace(cir_backbones=cir_backbones, cir_methods=cir_methods)
    return Registry.load({"toy": plugin, "dqe": dqe_hooks, "garments": garments_hooks})


def rows(*labels: str, **compare: str) -> tuple[SuiteEntry, ...]:
    """Suite entries of method ``contrastive``."""
    return tuple(
        SuiteEntry(label, {"method": {"name": "contrastive"}}, compare.get(label, ""))
        for label in labels
    )


def suite(*labels: str, seeds: tuple[int, ...] = (0,), **compare: str) -> Suite:
    """A suite of such entries."""
    return Suite(
        "made_up",
        "made_up.toml",
        rows(*labels, **compare),
        {"name": "fashioniq"},
        description="A <made-up> comparison.",
        seeds=seeds,
        show=("recall@5",),
    )


def record(label: str, seed: int, values: Mapping[str, list[float]], **other: Any) -> RunRecord:
    """A finished run: split -> value of each query under its one main measure ``recall@10``."""
    arrays = {split: np.array(queries) for split, queries in values.items()}
    splits = {
        split: {"recall@10": float(queries.mean()), "recall@5": 0.25}
        for split, queries in arrays.items()
    }
    average = {
        name: sum(measures[name] for measures in splits.values()) / len(splits)
        for name in ("recall@10", "recall@5")
    }
    report = {"dataset": "fashioniq", "protocol": "merged", "splits": splits, "average": average}
    settings: dict[str, Any] = {
        "seconds": 12.5,
        "parameters": {"trained": 1234, "all": 2000},
        "updates": 40,
        "config": {"train": {"epochs": 2}},
        "report": {**report, "queries": 4, "gallery": 9},
        "fingerprint": "f",
        "values": {"recall@10": arrays},
    }
    return RunRecord(label, "contrastive", seed, **{**settings, **other})


def val_split(folder: Path, **other: Any) -> Split:
    """A split with pictures, its main measure ``recall@10``."""
    settings = {"measures": ("recall@5", "recall@10"), "main": ("recall@10",), **other}
    return made_up_split(folder, role="val", images=12, queries=9, **settings)


def result(made: Suite, records: list[RunRecord], splits: tuple[Split, ...]) -> SuiteResult:
    """The result of a suite with these records."""
    content = document(made, records, splits, ENVIRONMENT)
    return SuiteResult(made, tuple(records), content, splits, Path("nowhere"))
