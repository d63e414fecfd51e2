"""Splits, device and method of a plan, read and built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cir_plugins.config.plan import Plan
from cir_plugins.data.split import Split
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.device import resolve_device, resolve_precision, resolve_workers
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.method import Components, Method
from cir_plugins.plugins.declarations import LEARNED_OPTIONS

ROLES = ("train", "val", "test")


def check_role(split: str) -> None:
    """Check the role of splits that are to be read.

    Raises:
        CIRError: If it is unknown.
    """
    if split not in ROLES:
        raise unknown_name("role of splits", split, ROLES)


def read_splits(plan: Plan, roles: Sequence[str]) -> list[Split]:
    """The plan's splits of these roles.

    Raises:
        CIRError: If a role is unknown, or the data cannot be read.
    """
    for role in roles:
        check_role(role)
    reader = plan.data.build()
    if hasattr(reader, "splits") and not reader.splits:
        reader = plan.data.build(splits=tuple(roles))
    with plan.data.guarded(f"cannot read {plan.root}"):
        splits: list[Split] = reader(plan.root)
    return [split for split in splits if split.role in roles]


def with_learned_options(plan: Plan, splits: Sequence[Split]) -> Plan:
    """The plan with those options of the backbone filled in that come from the training texts.

    A backbone's factory names them in ``learned_options``: option -> function of the training
    texts. The values are in the run's configuration from then on.
    """
    rules = LEARNED_OPTIONS.of(plan.backbone.factory)
    empty = [name for name in rules if not plan.backbone.options.get(name)]
    texts = [
        text
        for split in splits
        if split.role == "train" and empty
        for query in split.queries
        for text in split.captions.texts(query.captions, query.category)
    ]
    if not texts:
        return plan
    options = {**plan.backbone.options, **{name: rules[name](texts) for name in empty}}
    return replace(plan, backbone=replace(plan.backbone, options=options))


def make_encoding(plan: Plan, progress: bool) -> Encoding:
    """Device, precision, loader processes and feature cache of the plan.

    Raises:
        CIRError: If the device is not there.
    """
    device = resolve_device(plan.run.device)
    dtype = resolve_precision(plan.train.precision, device)
    folder = plan.run.feature_cache
    cache = FeatureCache(Path(folder), plan.run.feature_cache_dtype) if folder else None
    workers = resolve_workers(plan.run.workers)
    return Encoding(device, dtype, workers, progress=progress, cache=cache)


def check_device(plan: Plan) -> None:
    """Check that this machine has the plan's device, and that it trains in the plan's precision.

    Raises:
        CIRError: If it cannot.
    """
    device = resolve_device(plan.run.device)
    if plan.train.epochs and plan.train.precision == "fp16" and device.type == "cpu":
        raise CIRError(
            "train.precision 'fp16' cannot be trained on the CPU (gradients underflow); accepted: "
            "train.precision=fp32 or bf16, or a device with CUDA"
        )


def build(plan: Plan, encoding: Encoding) -> Method:
    """The plan's method on its device, the same for the same seed.

    Raises:
        CIRError: If a component or the method does not accept a value.
    """
    torch.manual_seed(plan.run.seed)
    loss = plan.loss.build()
    if not hasattr(loss, "scaled"):
        raise CIRError(
            f"loss '{plan.loss.name}' of plugin '{plan.loss.plugin}' has no attribute 'scaled'; "
            "accepted: True for a loss on scores over the temperature, False for one on cosines"
        )
    components = Components(
        plan.backbone.build(),
        loss,
        plan.sampler.build(),
        plan.mining.negatives,
        plan.mining.filter,
    )
    method: Method = plan.method.build(components)
    return method.to(encoding.device)


def count_parameters(method: Method) -> dict[str, int]:
    """Numbers of parameters of a method, ``trained`` and ``all``."""
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return {
        "trained": trained if method.trained else 0,
        "all": sum(p.numel() for p in method.parameters()),
    }
