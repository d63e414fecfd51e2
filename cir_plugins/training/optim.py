"""Optimisers and learning-rate schedules by name, as settings describe them."""

from __future__ import annotations

import math
from typing import Any

import torch

from cir_plugins.config.settings import TrainSettings
from cir_plugins.errors import CIRError
from cir_plugins.method import Method


def make_optimizer(method: Method, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser over the method's parameter groups; fused on CUDA.

    Raises:
        CIRError: If nothing is trained.
    """
    groups = [group for group in method.parameter_groups(settings.lr) if group["params"]]
    if not groups:
        raise CIRError(
            "nothing of the method is trained: the backbone is frozen and nothing else learns; "
            "accepted: a trained tower, or train.epochs=0"
        )
    for group in groups:
        group["peak"] = group["lr"]
        group.setdefault("weight_decay", settings.weight_decay)
    decay = settings.weight_decay
    adam: dict[str, Any] = {"betas": settings.betas, "eps": settings.eps, "weight_decay": decay}
    fused = settings.fused or any(
        p.device.type == "cuda" for group in groups for p in group["params"]
    )
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused, **adam)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, fused=fused, **adam)
    if settings.optimizer == "radam":
        return torch.optim.RAdam(groups, decoupled_weight_decay=True, **adam)
    return torch.optim.SGD(groups, momentum=settings.betas[0], weight_decay=decay)


def set_rate(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, epoch: int, step: int, steps: int
) -> float:
    """Set each group's rate for a step, and return the factor on its peak.

    Args:
        optimizer: Groups with their peak rate under ``peak``.
        settings: Schedule and length.
        epoch: 0-based epoch.
        step: 0-based step of the epoch.
        steps: Steps per epoch.
    """
    factor = rate_factor(settings, epoch, step, steps)
    fixed = settings.schedule == "constant"
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * (1.0 if fixed or group.get("constant_rate") else factor)
        if settings.schedule == "one_cycle":
            momentum = cycled_momentum(settings, epoch, step, steps)
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
    return factor


def rate_factor(settings: TrainSettings, epoch: int, step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak."""
    total = (settings.schedule_epochs or settings.epochs) * steps
    done = epoch * steps + step
    if settings.schedule == "cosine":
        length = settings.schedule_epochs or settings.epochs
        return _cosine(1.0, settings.lr_floor, epoch / length)
    if settings.schedule == "cosine_steps":
        rise = settings.warmup * total
        if done < rise:
            return min(1.0, (done + 1) / rise)
        return _cosine(1.0, settings.lr_floor, (done - rise) / max(1.0, total - rise))
    if settings.schedule == "one_cycle":
        # As torch's OneCycleLR: the start factor up to the peak, then down to 1e-4 of the start.
        last = settings.start_factor * 1e-4
        return _two_phases(settings, done, total, (settings.start_factor, 1.0, last))
    if settings.schedule == "step":
        warm = settings.warmup * settings.epochs
        if epoch < warm:
            return settings.start_factor + (1 - settings.start_factor) * epoch / warm
        return math.prod(settings.gamma for milestone in settings.milestones if epoch >= milestone)
    return 1.0


def cycled_momentum(settings: TrainSettings, epoch: int, step: int, steps: int) -> float:
    """First moment's decay, or SGD's momentum: 0.95, 0.85 at ``one_cycle``'s peak, 0.95."""
    total = (settings.schedule_epochs or settings.epochs) * steps
    return _two_phases(settings, epoch * steps + step, total, (0.95, 0.85, 0.95))


def _two_phases(
    settings: TrainSettings, done: int, total: int, values: tuple[float, float, float]
) -> float:
    peak = settings.warmup * total - 1
    start, middle, end = values
    if done <= peak:
        return _cosine(start, middle, done / peak if peak > 0 else 1.0)
    return _cosine(middle, end, min(1.0, (done - peak) / max(1.0, total - 1 - peak)))


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine, share in [0, 1] or beyond (it then comes back)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
