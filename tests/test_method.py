from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE, Margin
from cir_plugins.builtin.samplers import Hardest
from cir_plugins.data.batches import BatchPlan, BatchSource
from cir_plugins.method import Method
from cir_plugins.types import Batch
from tests.fakes import FakeBackbone, components, table_of


def batch_of(folder: Path, backbone: FakeBackbone, mined: Tensor | None = None) -> Batch:
    table = table_of(folder)
    return BatchSource(table, backbone, seed=0)[BatchPlan(0, 0, (0, 1, 2, 3), mined)]


def test_temperature_starts_as_set_and_stays_positive() -> None:
    method = Method(components(), temperature=0.05)
    assert method.temperature.item() == pytest.approx(0.05)
    assert method.log_temperature.requires_grad
    with torch.no_grad():
        method.log_temperature.fill_(-80.0)
    assert method.temperature.item() > 0
    assert not Method(components(), learn_temperature=False).log_temperature.requires_grad
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        Method(components(), temperature=0)


def test_terms_are_contrastive_learning_by_hand(tmp_path: Path) -> None:
    backbone = FakeBackbone()
    batch = batch_of(tmp_path, backbone)
    method = Method(components(backbone), temperature=0.1)
    terms = method.loss_terms(batch)
    assert batch.images is not None
    features = backbone.features(batch.images)
    query = backbone.encode_query(features[batch.reference], batch.tokens)
    scores = (query @ backbone.encode_gallery(features[batch.candidates]).T) / 0.1
    total = 0.0
    for row in range(4):
        target = int(batch.target[row])
        columns = [c for c in range(scores.shape[1]) if c == target or not batch.excluded[row, c]]
        values = [math.exp(scores[row, c].item()) for c in columns]
        total += math.log(sum(values)) - scores[row, target].item()
    assert list(terms) == ["loss"]
    assert terms["loss"].item() == pytest.approx(total / 4, rel=1e-5)


def test_unscaled_losses_get_cosines() -> None:
    """A loss on cosines must not see scores over the temperature."""
    scores, target = torch.tensor([[0.9, 0.8]]), torch.tensor([0])
    negatives = torch.tensor([[False, True]])
    method = Method(components(loss=Margin(margin=0.3)), temperature=0.1)
    # 0.3 - (0.9 - 0.8) = 0.2, whatever the temperature
    assert method.reduce_loss(method.loss, scores, target, negatives).item() == pytest.approx(0.2)
    # log(1 + exp(-1))
    assert method.reduce_loss(InfoNCE(), scores, target, negatives).item() == pytest.approx(
        math.log1p(math.exp(-1)), rel=1e-5
    )


def test_negatives_follow_the_settings(tmp_path: Path) -> None:
    backbone = FakeBackbone()
    mined = torch.tensor([[11], [10], [9], [8]])
    batch = batch_of(tmp_path, backbone, mined)
    assert batch.mined is not None
    scores = torch.zeros(batch.excluded.shape)
    of_batch = Method(components(backbone)).sampler(scores, batch.target, batch.excluded)
    only = Method(components(backbone, negatives="mined")).negatives(scores, batch)
    both = Method(components(backbone, negatives="both")).negatives(scores, batch)
    assert torch.equal(only, batch.mined)
    assert torch.equal(both, batch.mined | of_batch)
    hardest = Hardest()(scores, batch.target, batch.excluded)
    for source, columns in (("batch", hardest), ("none", of_batch)):
        chosen = components(backbone, sampler=Hardest(), negatives="both", filter=source)
        assert torch.equal(Method(chosen).negatives(scores, batch), batch.mined | columns)
    batch.mined = None
    assert torch.equal(Method(components(backbone)).negatives(scores, batch), of_batch)


def test_frozen_features_are_reused_without_gradient(
    tmp_path: Path,
) -> None:
    """Features of a frozen tower get no gradient, and those in the batch are used."""
    backbone = FakeBackbone(frozen=True)
    batch = batch_of(tmp_path, backbone)
    method = Method(components(backbone))
    features = method.features(batch)
    assert not features.requires_grad
    expected = method.loss_terms(batch)["loss"].item()
    batch.images, batch.features = None, features
    assert method.features(batch) is features
    assert method.loss_terms(batch)["loss"].item() == expected
    batch.features = None
    with pytest.raises(ValueError, match="a batch needs images or features"):
        method.features(batch)


def test_parameter_groups_leave_out_what_is_frozen() -> None:
    method = Method(components(FakeBackbone(frozen=True)), learn_temperature=False)
    (group,) = method.parameter_groups(0.5)
    assert group["lr"] == 0.5
    trained = {id(parameter) for parameter in group["params"]}
    assert id(method.backbone.tower) not in trained
    assert id(method.log_temperature) not in trained
    assert id(method.backbone.words) in trained
