from __future__ import annotations

import math

import pytest
import torch

from baselines_plugin.parts.metric_losses import (
    TwoWayHinge,
    draw_triplets,
    pair_negatives,
    soft_triplet,
)


def test_soft_triplet_by_hand() -> None:
    """Anchor 0, positive (1, 0), negative (0, 2): log(1 + exp(1 - 4))."""
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    triplets = torch.tensor([[0, 1, 2]])
    half = soft_triplet(vectors, triplets)
    assert half.item() == pytest.approx(math.log1p(math.exp(-3)), rel=1e-5)
    true = soft_triplet(vectors, triplets, "true")
    assert true.item() == half.item()
    (of_half,) = torch.autograd.grad(half, vectors)
    (of_true,) = torch.autograd.grad(true, vectors)
    assert torch.allclose(of_half * 2, of_true)
    slope = 1 / (1 + math.exp(3))
    assert of_true[1].tolist() == pytest.approx([2 * slope, 0.0])


def test_triplets_have_partner_and_negative() -> None:
    """The positive is the anchor's partner, the negative one of the anchor's."""
    negatives = pair_negatives(~torch.eye(5, dtype=torch.bool))
    triplets = draw_triplets(negatives, 3, torch.Generator().manual_seed(0))
    assert triplets.shape == (30, 3)
    for anchor, positive, negative in triplets.tolist():
        assert positive == (anchor + 5) % 10
        assert negative % 5 != anchor % 5
    drawn = [tuple(row) for row in triplets.tolist()]
    assert len(set(drawn)) == 30
    again = draw_triplets(negatives, 3, torch.Generator().manual_seed(0))
    assert torch.equal(triplets, again)
    other = draw_triplets(negatives, 3, torch.Generator().manual_seed(1))
    assert not torch.equal(triplets, other)


def test_all_negatives_are_taken_where_there_are_fewer() -> None:
    negatives = pair_negatives(~torch.eye(2, dtype=torch.bool))
    triplets = draw_triplets(negatives, 3)
    # each of 4 vectors has the two of the other query as negatives
    assert sorted(map(tuple, triplets.tolist())) == [
        (0, 2, 1), (0, 2, 3), (1, 3, 0), (1, 3, 2), (2, 0, 1), (2, 0, 3), (3, 1, 0), (3, 1, 2)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no row of the batch has a negative"):
        draw_triplets(torch.zeros(4, 4, dtype=torch.bool))


def test_pair_negatives_are_mutual() -> None:
    """A pair is a negative only where both queries allow it."""
    negatives = torch.tensor([[False, True], [False, False]])
    assert not pair_negatives(negatives).any()


def reference(
    distances: list[list[float]], negatives: list[list[bool]], margin: float, semi_hard: str
) -> list[float]:
    """The hinge, one row and one column at a time."""
    size = len(distances)

    def side(at: list[list[float]], allowed: list[list[bool]], row: int) -> float:
        pair, candidates = at[row][row], []
        for j in range(size):
            bound = {"column": at[j][j], "row": pair, "none": -math.inf}[semi_hard]
            if allowed[row][j] and at[row][j] >= bound:
                candidates.append(at[row][j])
        return max(0.0, pair - min(candidates) + margin) if candidates else 0.0

    turned = [list(column) for column in zip(*distances, strict=True)]
    turned_allowed = [list(column) for column in zip(*negatives, strict=True)]
    return [
        side(distances, negatives, i) + side(turned, turned_allowed, i)
        if any(negatives[i])
        else 0.0
        for i in range(size)
    ]


def test_two_way_hinge_by_hand() -> None:
    """D = [[.4, .5], [.3, 1]]; columns' pairs .4 and 1.

    Row 0: .5 < 1 is not semi-hard for its column, nothing left: 0. Row 1: .3 < .4: 0.
    Back: to target 0 from query 1, .3 < D_11 = 1; to target 1 from query 0, .5 >= .4:
    1 - .5 + .2 = .7.
    """
    scores = 1 - torch.tensor([[0.4, 0.5], [0.3, 1.0]]) / 2
    negatives = ~torch.eye(2, dtype=torch.bool)
    target = torch.arange(2)
    values = TwoWayHinge()(scores, target, negatives)
    assert values.tolist() == pytest.approx([0.0, 0.7], abs=1e-6)
    # by rows: row 0: .5 >= .4: .4 - .5 + .2; row 1: nothing >= 1; back 0: .3 < .4; back 1: none
    values = TwoWayHinge(semi_hard="row")(scores, target, negatives)
    assert values.tolist() == pytest.approx([0.1, 0.0], abs=1e-6)
    # all: .4-.5+.2 and .4-.3+.2; 1-.3+.2 and 1-.5+.2
    values = TwoWayHinge(semi_hard="none")(scores, target, negatives)
    assert values.tolist() == pytest.approx([0.4, 1.6], abs=1e-6)


@pytest.mark.parametrize("semi_hard", ["column", "row", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_two_way_hinge_is_the_slow_one(semi_hard: str, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(6, 8, generator=rng) * 2 - 1
    target = torch.randperm(8, generator=rng)[:6]
    negatives = torch.rand(6, 8, generator=rng) < 0.7
    negatives = negatives.scatter(1, target[:, None], False)
    loss = TwoWayHinge(margin=0.3, semi_hard=semi_hard)  # type: ignore[arg-type]
    distances = (2 - 2 * scores)[:, target].tolist()
    expected = reference(distances, negatives[:, target].tolist(), 0.3, semi_hard)
    empty = negatives[:, target].any(dim=1).logical_not() & negatives.any(dim=1)
    assert not empty.any()
    assert loss(scores, target, negatives).tolist() == pytest.approx(expected, abs=1e-5)


def test_two_way_hinge_has_gradients_and_checks() -> None:
    scores = torch.tensor([[0.5, 0.45], [0.1, 0.5]], requires_grad=True)
    target, negatives = torch.arange(2), ~torch.eye(2, dtype=torch.bool)
    values = TwoWayHinge()(scores, target, negatives)
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    assert gradient[0, 1].item() > 0
    assert gradient[0, 0].item() < 0
    with pytest.raises(ValueError, match="no row of the batch has a negative"):
        TwoWayHinge()(scores, target, torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"margin must be at least 0, not -0\.1"):
        TwoWayHinge(margin=-0.1)
