from __future__ import annotations

import pytest
import torch
from torch import nn

from cir_plugins.method import Method
from cir_plugins.training.averaging import Average
from tests.fakes import FakeBackbone, components


def made_up() -> Method:
    backbone = FakeBackbone(frozen=True)
    backbone.norm = nn.BatchNorm1d(2)
    return Method(components(backbone))


def test_average_moves_by_the_rest_of_its_decay() -> None:
    method = made_up()
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


def test_applied_weights_are_taken_back_even_after_an_error() -> None:
    method = made_up()
    average = Average(method, 0.5)
    with torch.no_grad():
        method.backbone.words.add_(2.0)
    own = method.backbone.words.detach().clone()
    averaged = average.weights["backbone.words"].clone()
    with average.applied(method):
        assert torch.equal(method.backbone.words, averaged)
    assert torch.equal(method.backbone.words, own)
    with pytest.raises(KeyError), average.applied(method):
        raise KeyError
    assert torch.equal(method.backbone.words, own)
    assert torch.equal(average.weights["backbone.words"], averaged)
