"""Optimisers, learning-rate schedules and the average of the weights, as settings describe them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cir_plugins.config.settings import TrainingSettings, TrainSettings
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.training.checkpoint import is_finite, trained_state

RESTARTING = ("cosine", "cosine_steps")


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


def check_state(optimizer: torch.optim.Optimizer, state: Mapping[int, Any], where: str) -> None:
    """Check the state of each weight that an optimiser is to go on from, which torch does not.

    Args:
        optimizer: One of ``make_optimizer``.
        state: Number of a weight -> its entries.
        where: Where the state comes from, for messages.

    Raises:
        CIRError: If a weight's entry lacks something, does not fit it, or is not finite.
    """
    needed = set() if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, entries in state.items():
        if lacking := sorted(needed - entries.keys()):
            raise CIRError(f"the optimiser in {where} lacks {', '.join(lacking)} of a weight")
        for name, value in entries.items():
            if not isinstance(value, Tensor):
                continue
            wanted = (weights[number].shape, weights[number].dtype)
            if name != "step" and (value.shape, value.dtype) != wanted:
                raise CIRError(
                    f"the optimiser in {where} does not fit: {name} {tuple(value.shape)} "
                    f"{value.dtype} of a weight {tuple(wanted[0])} {wanted[1]}"
                )
            if not is_finite(value):
                raise CIRError(
                    f"the optimiser in {where} cannot be used: {name} of a weight is not finite "
                    "(NaN or infinite)"
                )


class Schedule(LambdaLR):
    """The learning rate of each step: a group's first rate times ``rate_factor``.

    A group with ``constant_rate`` keeps its rate. ``one_cycle`` also moves the momentum of all
    groups. Rates follow from the number of the step alone, so that resuming needs no state.

    Args:
        optimizer: Groups with their peak rate.
        settings: Schedule and length.
        steps: Steps per epoch.
        done: Steps taken before.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: TrainingSettings,
        steps: int,
        done: int = 0,
    ) -> None:
        self.settings, self.steps = settings, steps
        fixed = settings.schedule.name == "constant"
        factors: list[Callable[[int], float]] = [
            self._constant if fixed or group.get("constant_rate") else self._factor
            for group in optimizer.param_groups
        ]
        super().__init__(optimizer, factors, last_epoch=done - 1)

    @property
    def factor(self) -> float:
        """The rate of the current step as a share of its peak."""
        return self._factor(self.last_epoch)

    def step(self, epoch: int | None = None) -> None:
        """Move on to the next step's rates."""
        with warnings.catch_warnings():
            # In fp16 the scaler may leave out the first updates; they count all the same.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the current step, whose momentum is set on the way, as in ``OneCycleLR``."""
        if self.settings.schedule.name == "one_cycle":
            momentum = cycled_momentum(self.settings, self.last_epoch, self.steps)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, group["betas"][1])
                else:
                    group["momentum"] = momentum
        return super().get_lr()

    def _factor(self, done: int) -> float:
        return rate_factor(self.settings, done, self.steps)

    def _constant(self, _: int) -> float:
        return 1.0


def rate_factor(settings: TrainingSettings, done: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak.

    Args:
        settings: Schedule and length.
        done: Steps taken before, over all epochs.
        steps: Steps per epoch.
    """
    schedule, epoch = settings.schedule, done // steps
    if restarts(settings):
        return _restarted(settings, done, steps)
    total = settings.schedule_epochs * steps
    if schedule.name == "cosine":
        return _cosine(1.0, schedule.floor, epoch / settings.schedule_epochs)
    if schedule.name == "cosine_steps":
        rise = schedule.warmup * total
        if done < rise:
            return min(1.0, (done + 1) / rise)
        return _cosine(1.0, schedule.floor, (done - rise) / max(1.0, total - rise))
    if schedule.name == "one_cycle":
        # OneCycleLR's curve, which it computes from rates and not from shares: other last bits, and
        # an error where a run goes on beyond the schedule's end.
        last = schedule.start_factor * 1e-4
        return _two_phases(settings, done, total, (schedule.start_factor, 1.0, last))
    if schedule.name == "step":
        warm = schedule.warmup * settings.train.epochs
        if epoch < warm:
            return schedule.start_factor + (1 - schedule.start_factor) * epoch / warm
        return math.prod(schedule.gamma for milestone in schedule.milestones if epoch >= milestone)
    return 1.0


def restarts(settings: TrainingSettings) -> bool:
    """Whether schedule and optimiser begin anew when the warm start has ended."""
    schedule = settings.schedule
    warm = settings.train.warm_start_epochs
    return bool(schedule.restart and warm) and schedule.name in RESTARTING


def _restarted(settings: TrainingSettings, done: int, steps: int) -> float:
    """As ``rate_factor``, of two schedules: of the warm start and of what follows."""
    warm, schedule = settings.train.warm_start_epochs, settings.schedule
    warming = done < warm * steps
    epochs = warm if warming else settings.schedule_epochs - warm
    part = schedule.model_copy(update={"restart": 0.0, "epochs": epochs})
    begun = 0 if warming else warm * steps
    factor = rate_factor(replace(settings, schedule=part), done - begun, steps)
    return factor if warming else schedule.restart * factor


def cycled_momentum(settings: TrainingSettings, done: int, steps: int) -> float:
    """First moment's decay, or SGD's momentum: 0.95, 0.85 at ``one_cycle``'s peak, 0.95."""
    return _two_phases(settings, done, settings.schedule_epochs * steps, (0.95, 0.85, 0.95))


def _two_phases(
    settings: TrainingSettings, done: int, total: int, values: tuple[float, float, float]
) -> float:
    peak = settings.schedule.warmup * total - 1
    start, middle, end = values
    if done <= peak:
        return _cosine(start, middle, done / peak if peak > 0 else 1.0)
    return _cosine(middle, end, min(1.0, (done - peak) / max(1.0, total - 1 - peak)))


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine, share in [0, 1] or beyond (it then comes back)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Average:
    """Exponential moving average of the trained weights; buffers are the model's own.

    torch's ``AveragedModel`` would hold a second copy of the frozen weights too.

    Args:
        method: Start values.
        decay: Share of the average that each update keeps, in (0, 1).
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.weights = {name: value.clone() for name, value in trained_state(method).items()}
        self._move: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(self, method: Method) -> None:
        """Move the average towards the method's weights."""
        buffers = {name for name, _ in method.named_buffers()}
        state = trained_state(method)
        for name in state.keys() & buffers:  # running statistics are averages already
            self.weights[name].copy_(state[name])
        trained = [name for name in state if name not in buffers]
        averages = tuple(self.weights[name] for name in trained)
        self._move(averages, tuple(state[name] for name in trained), 0)

    def applied(self, method: Method) -> AbstractContextManager[None]:
        """A context in which the method has the averaged weights."""

        @contextmanager
        def swap() -> Iterator[None]:
            state = {name: value.clone() for name, value in trained_state(method).items()}
            method.load_state_dict(self.weights, strict=False)
            try:
                yield
            finally:
                method.load_state_dict(state, strict=False)

        return swap()
