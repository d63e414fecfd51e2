from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from cir_plugins.config.settings import ScheduleSettings, TrainingSettings, TrainSettings
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.training.optim import (
    Average,
    Schedule,
    cycled_momentum,
    make_optimizer,
    rate_factor,
)
from tests.fakes import FakeBackbone, components
from tests.reference_training import one_cycle_factor


def laid_out(length: int, train: dict[str, Any] | None = None, **schedule: Any) -> TrainingSettings:
    """Settings of so many epochs with this schedule."""
    return TrainingSettings(
        TrainSettings(epochs=length, **(train or {})), ScheduleSettings(**schedule)
    )


def rates(settings: TrainingSettings, steps: int) -> list[float]:
    return [rate_factor(settings, done, steps) for done in range(settings.train.epochs * steps)]


@pytest.mark.parametrize(("warmup", "start"), [(0.3, 0.04), (0.1, 0.1), (0.5, 1.0), (0.25, 0.04)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_one_cycle_is_torchs(warmup: float, start: float, optimizer: Any) -> None:
    """Rate and momentum, step by step: cosine, two phases, a last rate of 1e-4 of the first."""
    settings = laid_out(
        5,
        {"lr": 0.3, "optimizer": optimizer},
        name="one_cycle",
        warmup=warmup,
        start_factor=start,
    )
    ours = make_optimizer(Method(components()), settings.train)
    rate = Schedule(ours, settings, 8)
    weight = nn.Parameter(torch.ones(1))
    theirs: Any = (
        torch.optim.SGD([weight], lr=1.0, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW([weight], lr=1.0)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs,
        max_lr=0.3,
        total_steps=40,
        pct_start=warmup,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=1 / start,
        final_div_factor=1e4,
        three_phase=False,
    )
    for done in range(40):
        factor = rate.factor
        group, their_group = ours.param_groups[0], theirs.param_groups[0]
        assert group["lr"] == pytest.approx(their_group["lr"], rel=1e-9)
        assert factor == pytest.approx(one_cycle_factor(done, 40, warmup, start), rel=1e-9)
        if optimizer == "sgd":
            assert group["momentum"] == pytest.approx(their_group["momentum"], rel=1e-9)
        else:
            assert group["betas"] == pytest.approx(their_group["betas"], rel=1e-9)
        theirs.step()
        ours.step()
        rate.step()
        if done < 39:
            schedule.step()


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_cosine_is_torchs_cosine_annealing(floor: float) -> None:
    settings = laid_out(6, {"lr": 0.2}, floor=floor)
    weight = nn.Parameter(torch.ones(1))
    theirs = torch.optim.SGD([weight], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 6, eta_min=0.2 * floor)
    for epoch in range(6):
        factors = [rate_factor(settings, 5 * epoch + step, 5) for step in range(5)]
        assert factors == [pytest.approx(theirs.param_groups[0]["lr"] / 0.2)] * 5
        theirs.step()
        schedule.step()


def test_cosine_by_steps_rises_evenly_and_then_falls() -> None:
    settings = laid_out(2, name="cosine_steps", warmup=0.2, floor=0.1)
    factors = rates(settings, 10)
    # 4 of 20 steps rise: 1/4, 2/4, 3/4, 1; then 16 fall along 0.1 + 0.9 (1 + cos(pi i / 16)) / 2
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factors[4:] == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * i / 16)) / 2 for i in range(16)]
    )


@pytest.mark.parametrize("warmup", [0.05, 0.11, 0.29, 0.5])
@pytest.mark.parametrize("schedule", ["cosine_steps", "one_cycle", "step", "cosine"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_no_schedule_exceeds_its_peak(schedule: Any, warmup: float, steps: int) -> None:
    settings = laid_out(7, name=schedule, warmup=warmup, milestones=(5,))
    assert all(0 <= factor <= 1 for factor in rates(settings, steps))


def test_step_rises_and_falls_at_milestones() -> None:
    settings = laid_out(10, name="step", milestones=(5, 8), gamma=0.1, warmup=0.4, start_factor=0.2)
    factors = [rate_factor(settings, 3 * epoch, 3) for epoch in range(10)]
    # four epochs from 0.2 by a quarter of 0.8 each
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_a_schedule_may_be_longer_than_training() -> None:
    short = laid_out(3, epochs=6)
    long = laid_out(6)
    assert rates(short, 2) == rates(long, 2)[:6]


def test_one_cycle_stays_at_its_end() -> None:
    settings = laid_out(4, epochs=2, name="one_cycle", warmup=0.25)
    assert rates(settings, 4)[8:] == [pytest.approx(0.04e-4)] * 8
    assert cycled_momentum(settings, 12, 4) == pytest.approx(0.95)


def test_constant_is_constant_and_groups_may_be_too() -> None:
    class TwoRates(Method):
        def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
            return [
                {"params": [self.backbone.words], "lr": lr},
                {"params": [self.backbone.tower], "lr": lr / 10, "constant_rate": True},
                {"params": [], "lr": lr},
            ]

    settings = laid_out(4, {"lr": 1.0})
    optimizer = make_optimizer(TwoRates(components()), settings.train)
    assert len(optimizer.param_groups) == 2
    assert Schedule(optimizer, settings, 5).factor == 1.0
    resumed = Schedule(optimizer, settings, 5, done=10)
    assert resumed.factor == pytest.approx(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.5), 0.1]
    constant = laid_out(4, {"lr": 1.0}, name="constant")
    assert Schedule(optimizer, constant, 5, done=15).factor == 1.0
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("radam", torch.optim.RAdam),
        ("sgd", torch.optim.SGD),
    ],
)
def test_optimisers_get_their_settings(name: Any, kind: type) -> None:
    settings = TrainSettings(optimizer=name, lr=0.3, weight_decay=0.2, betas=(0.8, 0.9), eps=1e-5)
    optimizer = make_optimizer(Method(components(FakeBackbone(frozen=True))), settings)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    if name == "sgd":
        assert group["momentum"] == 0.8
    else:
        assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)
    if name == "radam":
        assert group["decoupled_weight_decay"]
    assert len(group["params"]) == 5  # words, slots, two projections, temperature


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_a_fused_update_equals_the_plain_one(name: Any) -> None:
    trained = []
    for fused in (False, True):
        method = Method(components(FakeBackbone()))
        settings = TrainSettings(optimizer=name, lr=0.1, fused=fused)
        optimizer = make_optimizer(method, settings)
        assert optimizer.param_groups[0]["fused"] is fused
        for step in range(3):
            for place, parameter in enumerate(method.parameters()):
                rng = torch.Generator().manual_seed(10 * step + place)
                parameter.grad = torch.randn(parameter.shape, generator=rng)
            optimizer.step()
        trained.append([parameter.detach().clone() for parameter in method.parameters()])
    start = list(Method(components(FakeBackbone())).parameters())
    for one, two, before in zip(*trained, start, strict=True):
        assert torch.allclose(one, two, atol=1e-6)
        assert not torch.allclose(one, before, atol=1e-2)


def test_a_method_without_trained_weights_is_an_error() -> None:
    method = Method(components())
    method.requires_grad_(False)
    with pytest.raises(CIRError, match="nothing of the method is trained"):
        make_optimizer(method, TrainSettings())


@pytest.mark.parametrize("name", ["constant", "cosine", "cosine_steps", "one_cycle", "step"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_are_the_closed_forms_bits(name: Any, optimizer: Any) -> None:
    """Step by step, and where a run is resumed: the peak times the factor, in every group."""
    settings = laid_out(
        5,
        {"lr": 3e-4, "optimizer": optimizer},
        name=name,
        epochs=7,
        warmup=0.3,
        milestones=(2, 3),
        floor=0.01,
    )
    whole = make_optimizer(Method(components()), settings.train)
    schedule = Schedule(whole, settings, 3)
    for done in range(15):
        other = make_optimizer(Method(components()), settings.train)
        other.param_groups[0]["initial_lr"] = 3e-4
        Schedule(other, settings, 3, done=done)
        for group in (whole.param_groups[0], other.param_groups[0]):
            assert group["lr"] == 3e-4 * rate_factor(settings, done, 3)
            momentum = group["betas"][0] if optimizer == "adamw" else group["momentum"]
            moved = cycled_momentum(settings, done, 3)
            assert momentum == (moved if name == "one_cycle" else 0.9)
        whole.step()
        schedule.step()


def with_batch_norm() -> Method:
    backbone = FakeBackbone(frozen=True)
    backbone.norm = nn.BatchNorm1d(2)
    return Method(components(backbone))


def test_average_moves_by_the_rest_of_its_decay() -> None:
    method = with_batch_norm()
    start = method.backbone.words.detach().clone()
    average = Average(method, 0.75)
    with torch.no_grad():
        method.backbone.words.add_(4.0)
        method.backbone.norm.num_batches_tracked.fill_(7)
        method.backbone.norm.running_mean.fill_(7.0)
    average.update(method)
    # 0.75 * w + 0.25 * (w + 4) = w + 1
    assert torch.allclose(average.weights["backbone.words"], start + 1)
    assert average.weights["backbone.norm.num_batches_tracked"].item() == 7
    assert average.weights["backbone.norm.running_mean"].tolist() == [7.0, 7.0]
    average.update(method)
    assert torch.allclose(average.weights["backbone.words"], start + 1.75)
    assert "backbone.tower" not in average.weights


def test_applied_weights_are_taken_back() -> None:
    method = with_batch_norm()
    average = Average(method, 0.5)
    with torch.no_grad():
        method.backbone.words.add_(2.0)
    initial = method.backbone.words.detach().clone()
    averaged = average.weights["backbone.words"].clone()
    with average.applied(method):
        assert torch.equal(method.backbone.words, averaged)
    assert torch.equal(method.backbone.words, initial)
    with pytest.raises(KeyError), average.applied(method):
        raise KeyError
    assert torch.equal(method.backbone.words, initial)
    assert torch.equal(average.weights["backbone.words"], averaged)


def test_the_average_is_lerp_to_the_bit() -> None:
    """Torch moves all tensors at once; the numbers are those of one after another."""
    method = Method(components(FakeBackbone()))
    average = Average(method, 0.9999)
    expected = {name: value.clone() for name, value in average.weights.items()}
    for step in range(5):
        with torch.no_grad():
            for place, parameter in enumerate(method.parameters()):
                rng = torch.Generator().manual_seed(10 * step + place)
                parameter.add_(torch.randn(parameter.shape, generator=rng))
        average.update(method)
        state = method.state_dict()
        for name, value in expected.items():
            value.lerp_(state[name], 1 - 0.9999)
            assert torch.equal(average.weights[name], value)


def test_a_schedule_starts_anew_after_the_warm_start() -> None:
    """Two cosines over 4 and 2 epochs, the second from half the peak."""
    settings = TrainingSettings(
        TrainSettings(epochs=6, warm_start=0.66), ScheduleSettings(restart=0.5)
    )
    factors = [rate_factor(settings, epoch * 3, 3) for epoch in range(6)]
    half = 0.5**0.5
    first = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert factors == pytest.approx([*first, 0.5, 0.25])
    # By steps, the rise at the start comes in both.
    by_steps = replace(
        settings, schedule=ScheduleSettings(name="cosine_steps", warmup=0.5, restart=0.5)
    )
    rising = [rate_factor(by_steps, step, 2) for step in (0, 3, 4, 8, 9, 10)]
    assert rising == pytest.approx([0.25, 1.0, 1.0, 0.25, 0.5, 0.5])
