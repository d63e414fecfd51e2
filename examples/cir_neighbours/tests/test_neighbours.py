"""What the example guarantees: the right pairs, the method's contract, the plugin's."""

from __future__ import annotations

import cir_neighbours
import pytest
import torch
from cir_neighbours import Neighbours, reciprocal_neighbours
from torch import Tensor

from cir_plugins import Batch, Components, Registry
from cir_plugins.testing import check_method, check_plugin


def test_the_nearest_of_each_other_are_pairs() -> None:
    """0 and 10 degrees are nearest to each other; 25 degrees is nearest to 10, not the reverse."""
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0, 120.0]))
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    pairs = reciprocal_neighbours(vectors, 1).nonzero().tolist()
    assert pairs == [[0, 1], [1, 0]]


@pytest.mark.parametrize("neighbours", [0, 1, 3, 9, 20])
def test_pairs_are_those_of_a_plain_loop(neighbours: int) -> None:
    rng = torch.Generator().manual_seed(3)
    vectors = torch.nn.functional.normalize(torch.randn(10, 4, generator=rng), dim=1)
    nearest = [
        sorted(
            (other for other in range(10) if other != one),
            key=lambda other: -float(vectors[one] @ vectors[other]),
        )[:neighbours]
        for one in range(10)
    ]
    expected = [[a in nearest[b] and b in nearest[a] for b in range(10)] for a in range(10)]
    assert reciprocal_neighbours(vectors, neighbours).tolist() == expected


def test_the_method_keeps_the_contract() -> None:
    backbone = Registry.load().factory("backbone", "tiny_blip2")()
    check_method(Neighbours, backbone)


def test_the_plugin_keeps_the_contract() -> None:
    check_plugin(cir_neighbours)


def test_a_batch_may_be_embedded_in_micro_batches() -> None:
    """Overriding ``loss_terms`` would exclude ``train.micro_batch`` and torchrun."""
    assert Neighbours.supports_micro_batches()


def test_a_negative_number_of_neighbours_is_an_error() -> None:
    components = Components(torch.nn.Identity(), None, None)
    with pytest.raises(ValueError, match="neighbours must be 0 or more, not -1"):
        Neighbours(components, neighbours=-1)


class Seen:
    """A loss that records its negatives."""

    scaled = True
    negatives = torch.empty(0)

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Zeros (B,) with a gradient."""
        self.negatives = negatives
        return (scores * 0).sum(1)


class Fixed(torch.nn.Module):
    """A backbone whose features are the embeddings."""

    frozen_features = False

    def encode_query(self, features: Tensor, tokens: object) -> Tensor:
        """The features."""
        return features

    def encode_gallery(self, features: Tensor) -> Tensor:
        """The features."""
        return features

    def similarity(self, query: Tensor, target: Tensor) -> Tensor:
        """Cosines."""
        return query @ target.T


@pytest.mark.parametrize(
    ("neighbours", "expected"), [(0, [False, True, True, True]), (1, [False, False, True, True])]
)
def test_the_loss_never_sees_the_targets_twin(neighbours: int, expected: list[bool]) -> None:
    """Mined pairs that are not left out would train like plain contrastive learning."""
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0, 120.0]))
    batch = Batch(
        images=None,
        features=torch.stack([angles.cos(), angles.sin()], dim=1),
        reference=torch.tensor([3]),
        candidates=torch.arange(4),
        target=torch.tensor([0]),
        excluded=torch.zeros(1, 4, dtype=torch.bool),
        text=["is shorter"],
        tokens={},
    )
    loss = Seen()
    in_batch = Registry.load().factory("sampler", "in_batch")()
    Neighbours(Components(Fixed(), loss, in_batch), neighbours=neighbours).loss_terms(batch)
    assert loss.negatives.tolist() == [expected]
