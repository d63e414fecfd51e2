from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dqe_plugin.negatives import (
    NegativeTable,
    draw,
    negatives_of_embeddings,
    negatives_of_scores,
)
from dqe_plugin.sampler import TargetRelative

WIDE = TargetRelative(lower=0.1, upper=0.5, unit="absolute", fallback=0)


def sets(ids: Tensor) -> list[set[int]]:
    return [{int(i) for i in row if i >= 0} for row in ids]


def units(seed: int, rows: int, size: int = 8) -> Tensor:
    made = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


def test_a_hand_worked_row() -> None:
    """Target 0.9: columns at 0.5 and 0.6 lie 0.3 to 0.4 below; 0.85 too near, 0.1 too far."""
    scores = torch.tensor([[0.9, 0.5, 0.85, 0.1, 0.6, 0.95]])
    found = negatives_of_scores(scores, torch.tensor([0]), count=4, sampler=WIDE)
    assert sets(found) == [{1, 4}]
    assert found[0, 2:].tolist() == [-1, -1]
    barred = torch.tensor([[False, True, False, False, False, False]])
    found = negatives_of_scores(scores, torch.tensor([0]), count=4, excluded=barred, sampler=WIDE)
    assert sets(found) == [{4}]


def test_of_several_positives_the_best_scored_is_the_target_and_none_a_negative() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.6, 0.1], [0.9, 0.5, 0.6, 0.1]])
    mask = torch.tensor([[True, True, False, False], [False, True, False, False]])
    found = negatives_of_scores(scores, mask, count=2, sampler=WIDE)
    assert sets(found) == [{2}, {3}]


def test_a_row_without_a_positive_has_no_negatives() -> None:
    scores = torch.tensor([[0.9, 0.5], [0.9, 0.5]])
    assert sets(negatives_of_scores(scores, torch.tensor([-1, 0]), count=1)) == [set(), {1}]
    none = torch.zeros(2, 2, dtype=torch.bool)
    assert sets(negatives_of_scores(scores, none, count=1)) == [set(), set()]


@pytest.mark.parametrize("seed", range(4))
def test_labels_equal_a_slow_plain_reference_and_blocks_change_nothing(seed: int) -> None:
    queries, candidates = units(seed, 37), units(seed + 10, 23)
    chance = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 6, (37,), generator=chance)
    columns = torch.randint(0, 6, (23,), generator=chance)
    whole = negatives_of_embeddings(
        queries, candidates, labels=(rows, columns), count=23, sampler=WIDE, seed=seed
    )
    blocks = negatives_of_embeddings(
        queries, candidates, labels=(rows, columns), count=23, sampler=WIDE, seed=seed, block=5
    )
    scores = queries @ candidates.T
    for row, found in enumerate(sets(whole)):
        right = [c for c in range(23) if columns[c] == rows[row]]
        best = max((float(scores[row, c]) for c in right), default=9.0)
        wanted = {
            c for c in range(23) if c not in right and 0.1 <= best - float(scores[row, c]) <= 0.5
        }
        assert found == wanted
    assert torch.equal(whole, blocks)


def test_in_a_batch_no_row_is_its_own_target() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    found = negatives_of_embeddings(points, points, labels=(labels, labels), count=4, sampler=WIDE)
    # each row: its target scores 0.8, one stranger 0.6, the other 0 (too far) or 0.96 (above)
    assert sets(found) == [{2}, {3}, {0}, {1}]


def test_draws_depend_on_seed_and_row_alone_and_are_even() -> None:
    allowed = torch.ones(400, 10, dtype=torch.bool)
    allowed[:, 3] = False
    first = draw(allowed, 3, seed=1)
    assert torch.equal(first[100:], draw(allowed[100:], 3, seed=1, first_row=100))
    assert not torch.equal(first, draw(allowed, 3, seed=2))
    assert all(len(row) == 3 and 3 not in row for row in sets(first))
    drawn = torch.bincount(first.flatten(), minlength=10)
    assert int(drawn[[0, 1, 2, 4, 5, 6, 7, 8, 9]].min()) > 90  # 133 expected of each
    assert draw(allowed, 12, seed=1)[:, 9:].eq(-1).all()


def test_complete_rows_repeat_and_never_hold_a_positive() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.85, 0.1], [0.1, 0.5, 0.85, 0.4]])
    found = negatives_of_scores(scores, torch.tensor([0, 0]), count=3, sampler=WIDE, complete=True)
    assert found[0].tolist() == [1, 1, 1]
    assert sets(found)[1] == {1, 2, 3}


def test_complete_names_the_row_where_all_is_excluded() -> None:
    scores = torch.rand(3, 2)
    barred = torch.tensor([[False, False], [False, False], [False, True]])
    with pytest.raises(ValueError, match="row 2: every candidate is excluded"):
        negatives_of_scores(
            scores, torch.zeros(3, dtype=torch.long), count=1, excluded=barred, complete=True
        )


def test_wrong_shapes_are_named() -> None:
    scores, target = torch.rand(3, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"expected excluded \(3, 4\), found \(4, 3\)"):
        negatives_of_scores(scores, target, count=1, excluded=torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected positives \(3,\) of columns"):
        negatives_of_scores(scores, target[:2], count=1)
    with pytest.raises(ValueError, match="give positives or labels"):
        negatives_of_embeddings(units(0, 3), units(1, 4), count=1)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        negatives_of_scores(scores, target, count=0)
    table = NegativeTable(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expected ids \(3, 2\), found \(2, 2\)"):
        table.refresh(torch.zeros(2, 2))


def test_refreshing_tells_what_stays() -> None:
    table = NegativeTable(torch.tensor([[1, 2], [3, -1]]))
    assert table.refresh(torch.tensor([[2, 5], [4, -1]])) == pytest.approx(1 / 3)
    assert table.version == 1
    assert table[0].tolist() == [2, 5]
    assert len(table) == 2


class Rows(Dataset[Tensor]):
    """A row's negatives and the table's version."""

    def __init__(self, table: NegativeTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Tensor:
        return torch.cat([self.table[row], torch.tensor([self.table.version])])


def test_persistent_workers_see_a_refreshed_table() -> None:
    table = NegativeTable(torch.tensor([[1, 2], [3, 4]]))
    loader = DataLoader(
        Rows(table),
        batch_size=2,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    assert next(iter(loader)).tolist() == [[1, 2, 0], [3, 4, 0]]
    table.refresh(torch.tensor([[5, 6], [7, 8]]))
    assert next(iter(loader)).tolist() == [[5, 6, 1], [7, 8, 1]]


@pytest.mark.gpu
def test_a_gpu_draws_the_same() -> None:
    labels = torch.arange(200) % 20
    points = units(0, 200)
    here = negatives_of_embeddings(points, points, labels=(labels, labels), count=5)
    there = points.cuda()
    moved = labels.cuda()
    assert torch.equal(
        negatives_of_embeddings(there, there, labels=(moved, moved), count=5).cpu(), here
    )
