from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cir_plugins.retrieval import ranking
from cir_plugins.retrieval.ranking import ranks_of, top_k
from tests import reference

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
inf, nan = float("inf"), float("nan")


def scores_with_ties(seed: int, rows: int, width: int, levels: int, dtype: torch.dtype) -> Tensor:
    """Scores of few levels, both zeros, both infinities and a dropped image among them."""
    rng = torch.Generator().manual_seed(seed)
    level = torch.randint(-levels, levels + 1, (rows, width), generator=rng)
    scores = (level / 3).to(dtype)
    zeros = torch.rand(rows, width, generator=rng) < 0.05
    scores[zeros] = -0.0
    scores[torch.rand(rows, width, generator=rng) < 0.03] = inf
    scores[torch.rand(rows, width, generator=rng) < 0.03] = -inf
    return scores


def sorted_first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What a full stable sort begins with."""
    values, columns = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], columns[:, :k]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("positives", [1, 4])
@pytest.mark.parametrize("levels", [1, 6, 100_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_ranks_are_those_of_a_plain_ranking(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    positives: int,
    levels: int,
    threads: int,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    scores = scores_with_ties(levels + positives, 9, 37, levels, dtype)
    rng = torch.Generator().manual_seed(positives)
    columns = torch.rand(9, 37, generator=rng).argsort(dim=1)[:, :positives]
    columns[torch.rand(columns.shape, generator=rng) < 0.2] = -1
    columns[4] = -1
    computed, broken = ranks_of(scores, columns)
    assert not broken.any()
    for row, row_columns in enumerate(columns.tolist()):
        there = [place for place, column in enumerate(row_columns) if column >= 0]
        # A plain ranking leaves -inf out: places behind it are those of its order.
        plain = reference.ranks([max(s, -1e300) for s in scores[row].tolist()], row_columns)
        assert [int(computed[row, place]) for place in there] == [plain[place] for place in there]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("positives", [1, 4])
@pytest.mark.parametrize("levels", [1, 100_000])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "width"), [(700, 400), (7, 70_001), (3, 250_001)])
def test_ranks_beyond_one_pass_are_exact(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    positives: int,
    levels: int,
    threads: int,
    rows: int,
    width: int,
) -> None:
    """A thread compares 240,000 scores at a time: several rows, one value or less than a row."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    scores = scores_with_ties(levels + positives, rows, width, levels, dtype)
    rng = torch.Generator().manual_seed(positives)
    columns = torch.randint(0, width, (rows, positives), generator=rng)
    columns[torch.rand(columns.shape, generator=rng) < 0.2] = -1
    computed, broken = ranks_of(scores, columns)
    assert not broken.any()
    places = scores.sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)
    needed = columns >= 0
    expected = places.gather(1, columns.clamp(min=0)) + 1
    assert torch.equal(computed[needed], expected[needed])


def test_long_rows_are_counted_exactly() -> None:
    """More scores than the bytes of a word can count, and no multiple of eight."""
    rng = torch.Generator().manual_seed(0)
    for width in (2039, 2041, 5003):
        scores = torch.randint(0, 50, (3, width), generator=rng).float()
        columns = torch.randint(0, width, (3, 2), generator=rng)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        expected = (order[:, None] == columns[..., None]).int().argmax(dim=2) + 1
        assert torch.equal(ranks_of(scores, columns)[0], expected)
    assert ranks_of(torch.ones(1, 9000), torch.tensor([[8999, 0]]))[0].tolist() == [[9000, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gpu_counts_as_a_cpu_does(dtype: torch.dtype) -> None:
    """What a GPU runs is plain torch: run here on the same scores."""
    scores = scores_with_ties(0, 9, 37, 2, dtype)
    columns = torch.randint(0, 37, (9, 4), generator=torch.Generator().manual_seed(0))
    values, needed = scores.gather(1, columns), torch.ones_like(columns, dtype=torch.bool)
    single = scores.float() if dtype in (torch.float16, torch.bfloat16) else scores
    for one, two in zip(
        ranking._compared(scores, values, needed),
        ranking._compared_on_cpu(single, single.gather(1, columns), needed),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_rows_with_nan_are_marked() -> None:
    scores = torch.zeros(5, 4)
    scores[1, 3] = scores[2, 0] = scores[4, 2] = nan
    columns = torch.tensor([[0, 1], [0, -1], [0, -1], [2, 3], [-1, -1]])
    assert ranks_of(scores, columns)[1].tolist() == [False, True, True, False, True]


def test_scores_in_a_graph_and_transposed_are_ranked() -> None:
    scores = torch.tensor([[1.0, 5.0], [3.0, 4.0], [2.0, 6.0]], requires_grad=True)
    assert ranks_of(scores.T, torch.tensor([[0], [1]]))[0].tolist() == [[3], [3]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [0, 1, 6, 100_000])
@pytest.mark.parametrize("k", [0, 1, 3, 20, 36, 37, 50])
def test_top_k_equals_a_full_stable_sort(dtype: torch.dtype, levels: int, k: int) -> None:
    for seed in range(5):
        scores = scores_with_ties(seed, 12, 37, levels, dtype)
        scores[3, 5] = scores[4, 0] = scores[4, 36] = nan
        scores[6] = -inf
        values, columns = top_k(scores, k)
        expected = sorted_first(scores, k)
        assert torch.equal(columns, expected[1])
        assert values.dtype == dtype
        assert torch.equal(values.nan_to_num(7.0), expected[0].nan_to_num(7.0))
        assert torch.equal(values.isnan(), expected[0].isnan())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [0, 6, 100_000])
@pytest.mark.parametrize(("width", "k"), [(200, 1), (1281, 10), (4000, 3)])
def test_top_k_of_long_rows_equals_a_full_stable_sort(
    dtype: torch.dtype, levels: int, width: int, k: int
) -> None:
    for seed in range(5):
        scores = scores_with_ties(seed, 8, width, levels, dtype)
        scores[3, 5] = nan
        scores[4, 1:] = -inf
        scores[5, : width // 2] = -inf
        values, columns = top_k(scores, k)
        expected = sorted_first(scores, k)
        assert torch.equal(columns, expected[1])
        assert torch.equal(values.nan_to_num(7.0), expected[0].nan_to_num(7.0))


def test_the_first_of_a_long_ranking_without_ties() -> None:
    scores = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0))
    for k in (1, 10, 200):
        values, columns = top_k(scores, k)
        assert torch.equal(columns, sorted_first(scores, k)[1])
        assert torch.equal(values, scores.gather(1, columns))


def test_ties_at_the_end_take_lower_columns() -> None:
    scores = torch.tensor([[0.0, 2.0, 2.0, 2.0, 3.0]])
    assert top_k(scores, 2)[1].tolist() == [[4, 1]]
    assert top_k(scores, 3)[1].tolist() == [[4, 1, 2]]


def test_no_row_has_no_first() -> None:
    assert top_k(torch.zeros(0, 5), 2)[1].shape == (0, 2)
