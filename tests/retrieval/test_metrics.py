from __future__ import annotations

import random
from itertools import combinations

import pytest
import torch

from cir_plugins.errors import CIRError
from cir_plugins.retrieval.metrics import (
    Measure,
    any_recall_at,
    average_precision_at,
    mean_by_name,
    parse_measure,
    per_query,
    positive_ranks,
    random_recall,
    recall_at,
    subset_recall_at,
)
from tests import reference


def drawn(
    seed: int, shape: tuple[int, int, int], levels: int
) -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
    """Scores with ties (few levels) and a dropped image per row, and 1 to A positives per query."""
    Q, N, A = shape
    rng = random.Random(seed)
    scores = [[rng.randrange(levels) / 7 for _ in range(N)] for _ in range(Q)]
    positives = [rng.sample(range(N), rng.randint(1, A)) for _ in range(Q)]
    for row, right in zip(scores, positives, strict=True):
        row[rng.choice([i for i in range(N) if i not in right])] = float("-inf")
    padded = [[*right, *([-1] * (A - len(right)))] for right in positives]
    return torch.tensor(scores), torch.tensor(padded), positives


@pytest.mark.parametrize(
    ("shape", "levels"),
    [((1, 2, 1), 2), ((7, 5, 4), 2), ((20, 30, 6), 3), ((9, 40, 30), 1000), ((5, 80, 60), 12)],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_measures_equal_the_plain_reference(
    seed: int, shape: tuple[int, int, int], levels: int
) -> None:
    Q, _, A = shape
    scores, padded, positives = drawn(seed, shape, levels)
    ranks = positive_ranks(scores, padded)
    for row, right in enumerate(positives):
        plain = reference.ranks(scores[row].tolist(), right)
        assert ranks[row].tolist() == plain + [0] * (A - len(right))
    for name, plain_measure in {
        "recall": reference.recall,
        "any_recall": reference.any_recall,
        "map": reference.average_precision,
    }.items():
        for k in (1, 3, 10, 200):
            got = per_query(f"{name}@{k}", ranks)
            want = [plain_measure(scores[r].tolist(), positives[r], k) for r in range(Q)]
            assert got.dtype == torch.float64
            assert got.tolist() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_subset_recall_equals_the_plain_reference(seed: int) -> None:
    scores, padded, positives = drawn(seed, (12, 25, 1), 4)
    rng = random.Random(seed)
    for row, (target,) in enumerate(positives):
        others = [i for i in range(25) if i != target]
        group = sorted([target, *rng.sample(others, 4)])
        place = torch.tensor([[group.index(target)]])
        rank = positive_ranks(scores[row : row + 1, group], place)[:, 0]
        for k in (1, 2, 3):
            want = reference.subset_recall(scores[row].tolist(), target, group, k)
            assert per_query(f"subset_recall@{k}", padded, rank).tolist() == [want]


def test_ties_go_to_the_lower_gallery_index() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    assert positive_ranks(scores, torch.tensor([[3, 1, 2, 0, 4]])).tolist() == [[3, 1, 2, 4, 5]]


def test_all_scores_equal_rank_in_gallery_order() -> None:
    ranks = positive_ranks(torch.zeros(3, 4), torch.tensor([[0], [2], [3]]))
    assert ranks.flatten().tolist() == [1, 3, 4]


def test_a_removed_reference_has_no_rank() -> None:
    inf = float("inf")
    scores = torch.tensor([[-inf, -1e30, -inf, -2e38]])
    assert positive_ranks(scores, torch.tensor([[1, 3, 0, 2]])).tolist() == [[1, 2, 0, 0]]


def test_half_precision_scores_are_ranked() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.5]], dtype=torch.float16)
    assert positive_ranks(scores, torch.tensor([[2, 0]])).tolist() == [[2, 3]]


def test_infinite_scores_are_no_nan() -> None:
    inf = float("inf")
    scores = torch.tensor([[inf, -inf, 0.0, inf], [1.0, 1.0, inf, -inf]])
    assert positive_ranks(scores, torch.tensor([[3, 1], [1, -1]])).tolist() == [[2, 0], [3, 0]]


def test_nothing_to_rank_has_no_ranks() -> None:
    assert positive_ranks(torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 2)
    assert positive_ranks(torch.zeros(2, 3), torch.full((2, 2), -1)).tolist() == [[0, 0], [0, 0]]
    assert positive_ranks(torch.zeros(2, 0), torch.full((2, 1), -1)).tolist() == [[0], [0]]


def test_scores_and_positives_are_left_unchanged() -> None:
    scores, positives = torch.rand(4, 9), torch.tensor([[1, -1]] * 4)
    before = scores.clone(), positives.clone()
    positive_ranks(scores, positives)
    assert torch.equal(scores, before[0])
    assert torch.equal(positives, before[1])


def test_scores_that_are_not_numbers_are_errors() -> None:
    scores = torch.zeros(4, 3)
    scores[1, 2] = float("nan")
    with pytest.raises(CIRError, match=r"1 of 4 queries have scores that are not numbers"):
        positive_ranks(scores, torch.tensor([[0]] * 4))


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("positives", [[[0]] * 3, [[4, 0]] * 3, [[-1, 2]] * 3, [[-1, -1]] * 3])
def test_no_place_of_a_nan_escapes(place: int, positives: list[list[int]]) -> None:
    scores = torch.arange(15.0).view(3, 5)
    scores[1:, place] = float("nan")
    with pytest.raises(CIRError, match=r"2 of 3 queries have scores that are not numbers"):
        positive_ranks(scores, torch.tensor(positives))


@pytest.mark.parametrize("positives", [[[3]], [[-2]]])
def test_positives_outside_the_gallery_are_errors(positives: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="positives must be from -1 to 2"):
        positive_ranks(torch.zeros(1, 3), torch.tensor(positives))


def test_shapes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(1, 1\)"):
        positive_ranks(torch.zeros(2, 3), torch.tensor([[0]]))


def test_recall_by_hand() -> None:
    assert recall_at(torch.tensor([1, 3, 4, 0]), 3).tolist() == [1, 1, 0, 0]
    assert subset_recall_at(torch.tensor([1, 2, 0]), 1).tolist() == [1, 0, 0]
    ranks = torch.tensor([[9, 2], [4, 0], [0, 0]])
    assert any_recall_at(ranks, 3).tolist() == [1, 0, 0]


def test_average_precision_by_hand() -> None:
    # Hits at 1, 3 and 7: (1/1 + 2/3) / min(3, 5) at 5, and + 3/7 at 10.
    ranks, counts = torch.tensor([[3, 1, 7]]), torch.tensor([3])
    assert average_precision_at(ranks, counts, 5).item() == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision_at(ranks, counts, 10).item() == pytest.approx((1 + 2 / 3 + 3 / 7) / 3)
    assert average_precision_at(ranks, counts, 2).item() == pytest.approx(1 / 2)
    # A fourth positive that is not ranked still counts among those to be found.
    assert average_precision_at(ranks, torch.tensor([4]), 5).item() == pytest.approx(5 / 12)


def test_average_precision_needs_positives() -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        average_precision_at(torch.tensor([[1], [0]]), torch.tensor([1, 0]), 5)


def test_measure_names() -> None:
    assert parse_measure("any_recall@10") == Measure("any_recall", 10)
    assert parse_measure("map@5") == ("map", 5)


@pytest.mark.parametrize("name", ["recall", "recall@", "recall@0", "recall@-1", "hits@5", "map@5x"])
def test_unknown_measures_list_what_is_accepted(name: str) -> None:
    with pytest.raises(CIRError, match=f"unknown measure '{name}'\naccepted: recall@k, any_recall"):
        parse_measure(name)


def test_subset_recall_without_groups_is_an_error() -> None:
    with pytest.raises(CIRError, match="subset_recall@1 needs queries with a group"):
        per_query("subset_recall@1", torch.tensor([[1]]))


@pytest.mark.parametrize(
    ("k", "n", "positives"), [(1, 6, 1), (2, 6, 1), (3, 6, 2), (4, 6, 3), (9, 6, 2)]
)
def test_random_recall_equals_counting(k: int, n: int, positives: int) -> None:
    tops = list(combinations(range(n), min(k, n)))
    hits = sum(any(image < positives for image in top) for top in tops)
    assert random_recall(k, n, positives) == pytest.approx(hits / len(tops))
    assert random_recall(k, n) == pytest.approx(min(1, k / n))


def test_random_recall_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="n=0"):
        random_recall(1, 0)


def test_mean_by_name() -> None:
    values = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    means = mean_by_name(values, [("negation",), ("addition", "negation"), ()])
    assert means == {"addition": 0.5, "negation": 0.75}
    with pytest.raises(ValueError, match="3 values for 1 queries"):
        mean_by_name(values, [()])
