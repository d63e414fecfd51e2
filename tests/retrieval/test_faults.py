from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cir_plugins.data.split import SplitArrays
from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import average_faults, evaluate, report
from cir_plugins.retrieval.faults import confusion, measure_or_fault, suppression
from tests.fakes import CPU, components, made_up_split


def arrays(reference: list[int], positives: list[list[int]], images: int) -> SplitArrays:
    width = max(map(len, positives))
    return SplitArrays(
        tuple(map(str, range(images))),
        torch.tensor(reference),
        torch.tensor([row + [-1] * (width - len(row)) for row in positives]),
        torch.tensor([len(row) for row in positives]),
        torch.tensor([not row for row in positives]),
        None,
    )


def table(scores: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Queries and gallery whose products are these scores."""
    matrix = torch.tensor(scores)
    return matrix, torch.eye(matrix.shape[1])


def products(queries: Tensor, gallery: Tensor) -> Tensor:
    return queries @ gallery.T


def test_suppression_by_hand() -> None:
    """The docstring's query, one whose only other positive ranks first, and three that are out."""
    ranks = torch.tensor([[2, 4, 30], [12, 1, 0], [3, 0, 0], [0, 2, 3], [0, 0, 0]])
    found = suppression(ranks)
    assert found is not None
    assert found.queries == 2
    assert found.marked_recall == 0.5  # ranks 2 and 12
    assert found.unmarked_recall == 0.75  # (1/2 + 1) / 2
    assert found.marked_rank == 7.0
    assert found.unmarked_rank == 9.0  # (17 + 1) / 2
    assert suppression(ranks[2:]) is None
    assert suppression(torch.tensor([[1], [2]])) is None


def test_confusion_by_hand() -> None:
    """Queries 0 and 1 of one reference are the docstring's; query 2 has another reference."""
    queries, gallery = table([[0.8, 0.7, 0.0], [0.6, 0.5, 0.0], [0.9, 0.9, 0.1]])
    found = confusion(queries, gallery, arrays([7, 7, 8], [[0], [1], [2]], 3), products)
    assert found is not None
    assert (found.pairs, found.own_target) == (2, 0.5)
    product = (0.8 * 0.6 + 0.7 * 0.5) / (0.8**2 + 0.7**2) ** 0.5 / (0.6**2 + 0.5**2) ** 0.5
    assert found.query_similarity == pytest.approx(product, abs=1e-6)
    assert found.target_similarity == 0.0


def test_pairs_that_share_what_is_right_are_left_out() -> None:
    """Target 1 is right for query 0 too; query 2 is blind, query 3 has its target elsewhere."""
    queries, gallery = table([[0.8, 0.7], [0.6, 0.5], [0.1, 0.2], [0.1, 0.1]])
    shared = arrays([7] * 4, [[0, 1], [1], [], [-1]], 2)
    assert confusion(queries, gallery, shared, products) is None
    same = arrays([7, 7], [[0], [0]], 2)
    assert confusion(queries[:2], gallery, same, products) is None


@pytest.mark.parametrize("seed", range(5))
def test_confusion_equals_a_plain_loop(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    queries, gallery = torch.randn(30, 4), torch.randn(12, 3, 4)
    reference = [rng.randrange(5) for _ in range(30)]
    positives = [rng.sample(range(12), rng.randint(0, 3)) for _ in range(30)]

    def best(some: Tensor, images: Tensor) -> Tensor:
        return (some @ images.flatten(0, 1).T).view(len(some), len(images), -1).amax(dim=2)

    scores = best(queries, gallery)
    own = [
        scores[i, positives[i][0]] > scores[i, positives[j][0]]
        for i in range(30)
        for j in range(30)
        if i != j
        and reference[i] == reference[j]
        and positives[i]
        and positives[j]
        and positives[j][0] not in positives[i]
        and positives[i][0] not in positives[j]
    ]
    found = confusion(queries, gallery, arrays(reference, positives, 12), best)
    assert found is not None
    assert found.pairs == len(own)
    assert found.own_target == pytest.approx(sum(map(bool, own)) / len(own))


def test_evaluations_report_them(tmp_path: Path) -> None:
    split = made_up_split(tmp_path, role="val", queries=25)
    result = evaluate(Method(components()).eval(), split, CPU)
    assert result.faults["suppression"]["queries"] == 25
    document = report("made up", "", [result, result])
    assert document["faults"]["suppression"]["queries"] == 50
    assert document["faults"]["confusion"]["own_target"] == pytest.approx(
        result.faults["confusion"]["own_target"]
    )
    assert measure_or_fault(document, "own_target") == pytest.approx(
        result.faults["confusion"]["own_target"]
    )
    assert measure_or_fault(document, "recall@5") == result.measures["recall@5"]
    assert measure_or_fault({"average": {}}, "own_target") is None
    alone = made_up_split(tmp_path / "one", role="val", queries=1, positives=1)
    assert average_faults([evaluate(Method(components()).eval(), alone, CPU)]) == {}
