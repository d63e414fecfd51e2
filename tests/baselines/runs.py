"""Small runs of a method on drawn garments, and batches over feature maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines_plugin.backbones.vocabulary import learn_words
from cir_plugins import Batch, Plan, hookimpl
from cir_plugins.config.resolve import make_plan
from cir_plugins.plugins.registry import Registry
from cir_plugins.runs.evaluation import Outcome
from cir_plugins.runs.execute import execute


class Offers:
    """A plugin with the small backbone, one method and the two-way hinge."""

    def __init__(self, method: str) -> None:
        self.method = method

    @hookimpl
    def cir_backbones(self) -> Mapping[str, str]:
        """The small ResNet."""
        return {
            "tiny_resnet": "baselines_plugin.backbones.resnet:TinyResNet",
            "resnet": "baselines_plugin.backbones.resnet:ResNet",
        }

    @hookimpl
    def cir_losses(self) -> Mapping[str, str]:
        """VAL's loss."""
        return {"two_way_hinge": "baselines_plugin.parts.metric_losses:TwoWayHinge"}

    @hookimpl
    def cir_methods(self) -> Mapping[str, str]:
        """The method under test."""
        return {"tested": self.method}


def words_of(root: Path) -> tuple[str, ...]:
    """The words of a drawn set's captions."""
    files = sorted((root / "captions").glob("cap.*.json"))
    rows = [row for file in files for row in json.loads(file.read_text())]
    return learn_words([caption for row in rows for caption in row["captions"]])


def plan_of(method: str, root: Path, /, **config: dict[str, Any]) -> Plan:
    """The plan of "module:class" with these tables, on one epoch of one thread."""
    backbone = {
        "name": "tiny_resnet",
        "start": "random",
        "width": 32,
        "state_width": 32,
        "text_width": 32,
        "vocabulary": list(words_of(root)),
        **config.pop("backbone", {}),
    }
    if backbone.get("text") in ("bert", "roberta"):
        backbone["vocabulary"] = []
    train = {"epochs": 1, "batch_size": 16}
    schedule = {"name": "constant", "milestones": []}
    registry = Registry.load({"tested": Offers(method)})
    if registry.failures:
        raise ValueError(str(registry.failures))
    return make_plan(
        registry,
        {
            "method": {"name": "tested", **config.pop("method", {})},
            "backbone": backbone,
            "data": {"name": "fashioniq", "root": str(root), **config.pop("data", {})},
            "train": {**train, **config.pop("train", {})},
            "schedule": {**schedule, **config.pop("schedule", {})},
            "run": {"device": "cpu", "workers": 0},
            **config,
        },
    )


def losses_of(plan: Plan, folder: Path) -> tuple[Outcome, list[float]]:
    """The run's outcome and the loss of each epoch."""
    outcome = execute(plan, folder, progress=False)
    return outcome, [line["loss"] for line in outcome.curve if "loss" in line]


def batch_of(features: Any, tokens: Mapping[str, Tensor]) -> Batch:
    """Query i with reference i and target i, of features whose first half are references."""
    count = len(features if isinstance(features, Tensor) else features[0]) // 2
    return Batch(
        images=None,
        features=features,
        reference=torch.arange(count),
        candidates=torch.arange(count, 2 * count),
        target=torch.arange(count),
        excluded=torch.zeros(count, count, dtype=torch.bool),
        text=[""] * count,
        tokens=tokens,
    )
