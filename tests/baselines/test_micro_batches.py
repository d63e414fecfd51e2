"""Methods of several readings of a query, embedded in micro-batches and by two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines_plugin.backbones.blip import TinyBlip
from baselines_plugin.methods.bi_blip4cir import BiBLIP4CIR
from baselines_plugin.methods.sprc import SPRC
from cir_plugins import Batch, Method
from cir_plugins.builtin.blip2 import TinyBlip2
from cir_plugins.config.settings import TrainingSettings, TrainSettings
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.training.step import Step
from tests.fakes import CPU, components
from tests.parity.triplets import batch_of
from tests.processes import start


def sprc(**options: Any) -> Method:
    backbone = TinyBlip2(start="random", vision="frozen", dropout=0.0)
    return SPRC(components(backbone), **options)


def bi_blip(**options: Any) -> Method:
    small: dict[str, Any] = {"projection": 16, "hidden": 24, "dropout": 0.0, "temperature": 0.1}
    rates = {"combiner_lr": 1.0, "projection_lr_factor": 1.0}  # so that a step is the gradient
    return BiBLIP4CIR(components(TinyBlip(dropout=0.0)), **small, **rates, **options)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sprc": (sprc, {}),
    "sprc without text": (sprc, {"text_weight": 0.0}),
    "bi_blip4cir of sums": (bi_blip, {"stage": "sum"}),
    "bi_blip4cir of a Combiner": (bi_blip, {"stage": "combiner"}),
}


def batch_for(method: Method) -> Batch:
    """Five rows with their features."""
    rng = torch.Generator().manual_seed(1)
    side = method.backbone.preprocess.size
    images = [torch.randn(5, 3, side, side, generator=rng) for _ in range(2)]
    texts = ["make it red", "longer and blue", "no", "is green", "a plain one"]
    batch = batch_of(images, method.backbone.tokenize(texts))
    batch.text_variants = {"backward": method.backbone.tokenize(texts[::-1])}
    with torch.no_grad():
        batch.features, batch.images = method.backbone.features(batch.images), None
    return batch


def stepped(
    case: str, micro_batch: int = 0, processes: ProcessGroup | None = None
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Terms and weights of a step of plain descent, whose changes are the gradients."""
    torch.manual_seed(0)
    make, options = CASES[case]
    method = make(**options)
    method.on_epoch(0, 4)
    plain = {"optimizer": "sgd", "lr": 1.0, "betas": (0.0, 0.0), "weight_decay": 0.0}
    settings = TrainSettings(micro_batch=micro_batch, **plain)
    step = Step(
        method, TrainingSettings(settings), CPU, seed=0, processes=processes or ProcessGroup()
    )
    batch = batch_for(method)
    method.train()
    terms = step(batch, 0, 0)
    return terms, {name: value.detach() for name, value in method.state_dict().items()}


def assert_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    for name, value in one[1].items():
        assert torch.allclose(value, other[1][name], atol=1e-5, rtol=1e-5), name


def both(processes: ProcessGroup, folder: Path) -> None:
    """Every case, in a file of the process."""
    torch.save(
        {case: stepped(case, 0, processes) for case in CASES}, folder / f"{processes.rank}.pt"
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The steps of two processes, by rank."""
    folder = tmp_path_factory.mktemp("two")
    start(both, 2, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", list(CASES))
def test_micro_batches_and_processes_match_one_batch(case: str, two: list[dict[str, Any]]) -> None:
    whole = stepped(case)
    torch.manual_seed(0)
    make, options = CASES[case]
    before = make(**options).state_dict()
    changed = [name for name, value in whole[1].items() if not torch.equal(value, before[name])]
    assert changed
    assert_same(stepped(case, micro_batch=2), whole)
    for result in two:
        assert_same(result[case], whole)
