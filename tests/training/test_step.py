from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cir_plugins.config.settings import TrainingSettings, TrainSettings
from cir_plugins.data.batches import BatchPlan, BatchSource
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.errors import CIRError
from cir_plugins.features import select
from cir_plugins.method import Method
from cir_plugins.seeds import mix_seed
from cir_plugins.training.step import CANDIDATES, QUERIES, Step, rows_of
from cir_plugins.training.trainer import Trainer
from cir_plugins.types import Batch
from tests.fakes import CPU, FakeBackbone, components, make_trainer, table_of

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = {"dropout": 0.0}


def trained(tmp_path: Path, name: str, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights after two epochs."""
    trainer = make_trainer(
        tmp_path / name, tmp_path / "data", epochs=2, validated=False, **settings
    )
    trainer.fit()
    losses = [value for line in trainer.progress.lines for value in line["loss_terms"].values()]
    return losses, {k: v.detach().clone() for k, v in trainer.method.state_dict().items()}


def assert_close(one: tuple[list[float], Any], other: tuple[list[float], Any], most: float) -> None:
    assert one[0] == pytest.approx(other[0], abs=most)
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        assert torch.allclose(value, other[1][name], atol=most, rtol=0), name


# Plain SGD: a gradient's rounding is not blown up as Adam's division by a small moment does.
@pytest.mark.parametrize("micro_batch", [1, 4, 50])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", ["contrastive", "dqe"])
def test_micro_batches_train_like_whole_batches(
    tmp_path: Path, method: str, frozen: bool, micro_batch: int
) -> None:
    settings: dict[str, Any] = {"method": method, "optimizer": "sgd", "lr": 0.1, "clip": 1.0}
    settings["backbone"] = {**STILL, "frozen": frozen}
    whole = trained(tmp_path, "whole", **settings)
    assert_close(trained(tmp_path, "micro", micro_batch=micro_batch, **settings), whole, 1e-6)
    start = make_trainer(tmp_path / "start", tmp_path / "data", **settings).method.state_dict()
    assert not torch.allclose(whole[1]["backbone.words"], start["backbone.words"], atol=1e-3)


def one_batch(folder: Path, backbone: Any, rows: int = 7) -> Batch:
    return BatchSource(table_of(folder), backbone, seed=0)[BatchPlan(0, 0, tuple(range(rows)))]


def test_second_pass_repeats_the_dropout_of_the_first(tmp_path: Path) -> None:
    """Against one graph over the same slices, each embedded once under its own seed."""
    torch.manual_seed(0)
    method = Method(components(FakeBackbone(dropout=0.4)))
    batch = one_batch(tmp_path, method.backbone)
    settings = TrainSettings(
        lr=0.1, optimizer="sgd", betas=(0.0, 0.0), weight_decay=0.0, micro_batch=3
    )
    step = Step(method, TrainingSettings(settings), CPU, seed=5, processes=ProcessGroup())
    method.train()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    losses = step(batch, 2, 8)
    gradients = {name: (before[name] - p.detach()) / 0.1 for name, p in method.named_parameters()}

    method.load_state_dict(before)
    method.zero_grad()
    features = method.features(batch)
    queries, targets = [], []
    for number, first in enumerate(range(0, 7, 3)):
        rows = slice(first, first + 3)
        torch.manual_seed(mix_seed(5, 2, 8, QUERIES, number))
        seen = select(features, batch.reference[rows])
        queries.append(method.embed_queries(seen, rows_of(batch, rows)))
    for number, first in enumerate(range(0, len(batch.candidates), 3)):
        torch.manual_seed(mix_seed(5, 2, 8, CANDIDATES, number))
        seen = select(features, batch.candidates[first : first + 3])
        targets.append(method.embed_targets(seen))
    terms = method.loss_terms_from(torch.cat(queries), torch.cat(targets), batch)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    assert losses["loss"] == pytest.approx(terms["loss"].item(), abs=1e-6)
    for name, parameter in method.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(gradients[name], parameter.grad, atol=1e-6), name
    torch.manual_seed(99)
    assert method.loss_terms(batch)["loss"].item() != pytest.approx(losses["loss"], abs=1e-4)


def test_one_micro_batch_is_embedded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    for name in ("encode_query", "encode_gallery", "features"):
        plain = getattr(FakeBackbone, name)

        def spied(self: Any, features: Tensor, *rest: Any, plain: Any = plain) -> Any:
            sizes.append(len(features))
            return plain(self, features, *rest)

        monkeypatch.setattr(FakeBackbone, name, spied)
    method = Method(components(FakeBackbone()))
    batch = one_batch(tmp_path, method.backbone)
    settings = TrainingSettings(TrainSettings(micro_batch=3))
    Step(method, settings, CPU, seed=0, processes=ProcessGroup())(batch, 0, 0)
    assert max(sizes) == 3
    queries, targets = 3, -(-len(batch.candidates) // 3)
    assert len(sizes) == 2 * 2 * (queries + targets)  # features and embeddings, in two passes


def test_rows_of_a_batch_hold_its_texts(tmp_path: Path) -> None:
    batch = one_batch(tmp_path, FakeBackbone())
    batch.text_variants = {"other": {"ids": batch.tokens["ids"] + 1}}
    some = rows_of(batch, slice(2, 5))
    assert some.text == batch.text[2:5]
    assert torch.equal(some.tokens["ids"], batch.tokens["ids"][2:5])
    assert torch.equal(some.text_variants["other"]["ids"], batch.tokens["ids"][2:5] + 1)
    assert some.triplet_index is not None
    assert some.triplet_index.tolist() == [2, 3, 4]
    assert some.images is None
    assert some.features is None


class Whole(Method):
    """Its loss terms are of a whole batch."""

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term."""
        return {"loss": super().loss_terms(batch)["loss"]}


class Normed(Method):
    """Has batch statistics of its own."""

    def __init__(self, components: Any) -> None:
        super().__init__(components)
        self.norm = nn.BatchNorm1d(8)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Whole,
            "method 'Whole' computes its terms on a whole batch, but train.micro_batch is 2; "
            "accepted: train.micro_batch=0",
        ),
        (
            Normed,
            "batch norm 'norm' takes its statistics from a whole batch, but train.micro_batch",
        ),
    ],
)
def test_method_of_whole_batches_has_no_micro_batches(kind: Any, message: str) -> None:
    settings = TrainingSettings(TrainSettings(micro_batch=2))
    with pytest.raises(CIRError, match=message):
        Step(kind(components()), settings, CPU, seed=0, processes=ProcessGroup())
    Step(kind(components()), TrainingSettings(), CPU, seed=0, processes=ProcessGroup())


def test_trainer_hands_micro_batch_to_step(tmp_path: Path) -> None:
    trainer: Trainer = make_trainer(tmp_path / "run", tmp_path / "data", micro_batch=2)
    assert trainer.step.micro_batched
    assert not make_trainer(tmp_path / "other", tmp_path / "data").step.micro_batched
