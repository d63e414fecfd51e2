from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cir_plugins.builtin.similarity import best_token
from cir_plugins.mining import (
    NegativeTable,
    PoolStatistics,
    negative_pool_report,
    negatives_of_embeddings,
    negatives_of_scores,
)
from dqe_plugin.sampler import TargetRelative

ZONE = TargetRelative()
WIDE = TargetRelative(lower=0.1, upper=0.5, unit="absolute", fallback=0)


def sets(ids: Tensor) -> list[set[int]]:
    return [{int(i) for i in row if i >= 0} for row in ids]


def units(seed: int, rows: int, size: int = 8) -> Tensor:
    made = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=1)


def test_a_hand_worked_row() -> None:
    """Target 0.9: columns at 0.5 and 0.6 lie 0.3 to 0.4 below; 0.85 too near, 0.1 too far."""
    scores = torch.tensor([[0.9, 0.5, 0.85, 0.1, 0.6, 0.95]])
    drawn = negatives_of_scores(scores, torch.tensor([0]), count=4, sampler=WIDE)
    assert sets(drawn) == [{1, 4}]
    assert drawn[0, 2:].tolist() == [-1, -1]
    barred = torch.tensor([[False, True, False, False, False, False]])
    drawn = negatives_of_scores(scores, torch.tensor([0]), count=4, excluded=barred, sampler=WIDE)
    assert sets(drawn) == [{4}]


def test_best_scored_positive_is_the_target() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.6, 0.1], [0.9, 0.5, 0.6, 0.1]])
    mask = torch.tensor([[True, True, False, False], [False, True, False, False]])
    drawn = negatives_of_scores(scores, mask, count=2, sampler=WIDE)
    assert sets(drawn) == [{2}, {3}]


def test_a_row_without_a_positive_has_no_negatives() -> None:
    scores = torch.tensor([[0.9, 0.5], [0.9, 0.5]])
    assert sets(negatives_of_scores(scores, torch.tensor([-1, 0]), ZONE, count=1)) == [set(), {1}]
    none = torch.zeros(2, 2, dtype=torch.bool)
    assert sets(negatives_of_scores(scores, none, ZONE, count=1)) == [set(), set()]


@pytest.mark.parametrize("seed", range(4))
def test_labels_equal_a_slow_plain_reference(seed: int) -> None:
    queries, candidates = units(seed, 37), units(seed + 10, 23)
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 6, (37,), generator=rng)
    columns = torch.randint(0, 6, (23,), generator=rng)
    whole = negatives_of_embeddings(
        queries, candidates, labels=(rows, columns), count=23, sampler=WIDE, seed=seed
    )
    blocks = negatives_of_embeddings(
        queries, candidates, labels=(rows, columns), count=23, sampler=WIDE, seed=seed, block=5
    )
    scores = queries @ candidates.T
    for row, drawn in enumerate(sets(whole)):
        right = [c for c in range(23) if columns[c] == rows[row]]
        best = max((float(scores[row, c]) for c in right), default=9.0)
        expected = {
            c for c in range(23) if c not in right and 0.1 <= best - float(scores[row, c]) <= 0.5
        }
        assert drawn == expected
    assert torch.equal(whole, blocks)


def test_no_row_is_its_own_batch_target() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    drawn = negatives_of_embeddings(points, points, labels=(labels, labels), count=4, sampler=WIDE)
    # each row: its target scores 0.8, one stranger 0.6, the other 0 (too far) or 0.96 (above)
    assert sets(drawn) == [{2}, {3}, {0}, {1}]


def test_one_batch_is_known_by_its_embeddings() -> None:
    """Two towers with the labels of one tensor lost every target; copied labels gave back rows."""
    items, ids = units(1, 200), torch.arange(200)
    queries = torch.nn.functional.normalize(items + 0.1 * units(0, 200), dim=1)
    mid_zone = TargetRelative(lower=0, upper=1)
    options: dict[str, Any] = {"count": 3, "sampler": mid_zone}
    towers = negatives_of_embeddings(queries, items, labels=(ids, ids), **options)
    expected = negatives_of_embeddings(queries, items, ids, **options)
    assert torch.equal(towers, expected)
    assert (towers >= 0).any(dim=1).all()
    topic = ids % 20
    batch = negatives_of_embeddings(queries, queries, labels=(topic, topic), **options)
    copied = (topic, topic.clone())
    assert torch.equal(batch, negatives_of_embeddings(queries, queries, labels=copied, **options))
    copies = negatives_of_embeddings(
        queries, queries.clone(), labels=copied, itself=True, **options
    )
    assert torch.equal(batch, copies)
    as_towers = negatives_of_embeddings(queries, queries, labels=copied, itself=False, **options)
    assert not torch.equal(batch, as_towers)
    with pytest.raises(ValueError, match="200 queries cannot be the 150 candidates"):
        negatives_of_embeddings(queries, items[:150], ids % 150, itself=True, **options)
    with pytest.raises(ValueError, match=r"expected labels \(200,\) and \(150,\)"):
        negatives_of_embeddings(queries, items[:150], labels=(ids, ids), **options)


def test_no_batch_row_is_its_own_negative() -> None:
    points = units(0, 4)
    partner = torch.tensor([1, 0, 3, 2])
    drawn = negatives_of_embeddings(
        points, points, partner, count=2, sampler=lambda s, t, e: ~e, complete=True
    )
    assert sets(drawn) == [{2, 3}, {2, 3}, {0, 1}, {0, 1}]


def test_complete_rows_repeat_and_never_hold_a_positive() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.85, 0.1], [0.1, 0.5, 0.85, 0.4]])
    with pytest.warns(UserWarning, match="left 100% of the rows fewer than 3 negatives"):
        drawn = negatives_of_scores(
            scores, torch.tensor([0, 0]), count=3, sampler=WIDE, complete=True
        )
    assert drawn[0].tolist() == [1, 1, 1]
    assert sets(drawn)[1] == {1, 2, 3}


def test_empty_rows_are_filled_from_below_first() -> None:
    """What scores above the target is the likeliest to be right and unmarked."""
    scores = torch.tensor([[0.5, 0.9, 0.48, 0.47, 0.5], [0.9, 0.5, 0.6, 0.7, 0.55]])
    scores = scores.repeat(2, 1)
    barred = torch.zeros(4, 5, dtype=torch.bool)
    barred[2, 2:4] = True
    options: dict[str, Any] = {"count": 2, "sampler": WIDE, "complete": True}
    drawn = negatives_of_scores(scores, torch.zeros(4).long(), excluded=barred, **options)
    assert sets(drawn)[0] == {2, 3}
    assert sets(drawn)[2] == {1, 4}, "nothing lies below, so that there is but the rest"


def test_first_column_survives_without_a_positive() -> None:
    """No target was read as column 0, which then was never drawn."""
    scores = torch.tensor([[0.9, 0.5], [0.9, 0.5]])
    barred = torch.tensor([[False, True], [False, False]])
    drawn = negatives_of_scores(
        scores, torch.tensor([-1, 0]), ZONE, count=1, excluded=barred, complete=True
    )
    assert drawn.tolist() == [[0], [1]]


def test_slices_of_rows_give_the_same_negatives() -> None:
    queries, items = units(0, 40), units(1, 30)
    target = torch.arange(40) % 30
    whole = negatives_of_embeddings(queries, items, target, sampler=ZONE, count=4, seed=5)
    sliced = negatives_of_embeddings(queries, items, target, sampler=ZONE, count=4, seed=5, block=7)
    assert torch.equal(whole, sliced)
    scores = queries @ items.T
    assert torch.equal(whole, negatives_of_scores(scores, target, sampler=ZONE, count=4, seed=5))
    barred = torch.rand(40, 30, generator=torch.Generator().manual_seed(2)) < 0.3
    masked = negatives_of_embeddings(queries, items, target, sampler=ZONE, count=4, excluded=barred)
    called = negatives_of_embeddings(
        queries, items, target, sampler=ZONE, count=4, excluded=barred.__getitem__
    )
    assert torch.equal(masked, called)


def test_padding_of_minus_inf_is_never_a_negative() -> None:
    scores = torch.full((6, 20), -torch.inf)
    scores[:, :5] = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16):
        drawn = negatives_of_scores(
            scores.to(dtype), torch.zeros(6).long(), count=4, sampler=TargetRelative(lower=0)
        )
        assert int(drawn.max()) < 5
    right = torch.zeros(6, 20, dtype=torch.bool)
    right[:3, 2], right[3:, 12] = True, True
    drawn = negatives_of_scores(scores, right, count=4, sampler=TargetRelative(lower=0))
    assert drawn[3:].eq(-1).all(), "a target that is padding is none"


def test_no_query_gives_no_negatives() -> None:
    none = negatives_of_scores(
        torch.empty(0, 5), torch.empty(0).long(), ZONE, count=3, complete=True
    )
    assert none.shape == (0, 3)
    some = units(0, 4)
    assert negatives_of_embeddings(
        some[:0], some, torch.empty(0).long(), sampler=ZONE, count=3
    ).shape == (0, 3)


def test_a_report_has_the_numbers_of_training() -> None:
    """Two accounts of one sampler that differ would be worse than none."""
    scores, target = units(0, 50) @ units(1, 60).T, torch.arange(50)
    all_positives = torch.rand(50, 60, generator=torch.Generator().manual_seed(3)) < 0.1
    excluded = torch.rand(50, 60, generator=torch.Generator().manual_seed(4)) < 0.2
    for sampler in (TargetRelative(), TargetRelative(lower=1, upper=1.1, unit="absolute")):
        report = negative_pool_report(
            scores, target, sampler, excluded=excluded, all_positives=all_positives
        )
        barred = excluded.scatter(1, target[:, None], True)
        mask, fallback = sampler.negatives_and_fallback(scores, target, barred)
        statistics = PoolStatistics(50)
        statistics.add(mask, all_positives.nonzero(as_tuple=True))
        statistics.add_scores(scores, target, mask, fallback)
        assert report == statistics.report()
    plain = negative_pool_report(scores, target, sampler=lambda s, t, e: torch.zeros_like(e))
    assert plain["empty"] == 1
    assert "fallback" not in plain
    assert "false_negatives" not in plain
    with pytest.raises(ValueError, match=r"scores \(0, 5\) hold nothing to report on"):
        negative_pool_report(torch.empty(0, 5), torch.empty(0).long(), ZONE)
    with pytest.raises(ValueError, match="all_positives must be a mask of bool"):
        negative_pool_report(scores, target, ZONE, all_positives=all_positives.long())


def test_complete_names_the_row_with_nothing_left() -> None:
    scores = torch.rand(3, 2)
    barred = torch.tensor([[False, False], [False, False], [False, True]])
    with pytest.raises(ValueError, match="row 2: every candidate is excluded"):
        negatives_of_scores(
            scores, torch.zeros(3, dtype=torch.long), ZONE, count=1, excluded=barred, complete=True
        )


def test_wrong_shapes_are_named() -> None:
    scores, target = torch.rand(3, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"expected excluded \(3, 4\), found \(4, 3\)"):
        negatives_of_scores(scores, target, ZONE, count=1, excluded=torch.zeros(4, 3).bool())
    with pytest.raises(ValueError, match=r"expected positives \(3,\) of columns"):
        negatives_of_scores(scores, target[:2], ZONE, count=1)
    with pytest.raises(ValueError, match="positives and labels are missing"):
        negatives_of_embeddings(units(0, 3), units(1, 4), sampler=ZONE, count=1)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        negatives_of_scores(scores, target, ZONE, count=0)
    with pytest.raises(ValueError, match=r"excluded must be a mask of bool, not torch\.uint8"):
        negatives_of_scores(scores, target, ZONE, count=1, excluded=torch.zeros(3, 4).byte())
    with pytest.raises(ValueError, match=r"row 7: positive 4 is no column of 4; -1 is none"):
        negatives_of_scores(scores, torch.tensor([0, -1, 4]), ZONE, count=1, first_row=5)
    with pytest.raises(ValueError, match=r"found \(3,\) of torch\.float32"):
        negatives_of_scores(scores, target.float(), ZONE, count=1)
    table = NegativeTable(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expected ids \(3, 2\), found \(2, 2\)"):
        table.refresh(torch.zeros(2, 2))


def test_tables_of_inference_mode_can_be_refreshed() -> None:
    with torch.inference_mode():
        table = NegativeTable(torch.tensor([[1, 2]]))
    assert table.refresh(torch.tensor([[2, 3]])) == 0.5
    with torch.inference_mode():
        table.refresh(torch.tensor([[4, 5]]))
    assert table[0].tolist() == [4, 5]


def test_refreshing_returns_what_stays() -> None:
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
    here = negatives_of_embeddings(points, points, labels=(labels, labels), sampler=ZONE, count=5)
    there = points.cuda()
    moved = labels.cuda()
    assert torch.equal(
        negatives_of_embeddings(there, there, labels=(moved, moved), sampler=ZONE, count=5).cpu(),
        here,
    )


def test_without_any_positive_there_is_a_warning() -> None:
    """Labels that all differ gave -1 everywhere, without a word."""
    points, labels = units(0, 6), torch.arange(6)
    with pytest.warns(UserWarning, match=r"none of the 6 queries has a positive .* \(itself\)"):
        ids = negatives_of_embeddings(
            points, points, labels=(labels, labels), sampler=ZONE, count=2
        )
    assert ids.eq(-1).all()
    with pytest.warns(UserWarning, match="has a positive among the candidates, so that none has"):
        negatives_of_embeddings(points, units(1, 4), torch.full((6,), -1), sampler=ZONE, count=2)


def test_masks_of_floats_are_errors() -> None:
    queries, items, target = units(0, 3), units(1, 4), torch.zeros(3, dtype=torch.long)
    floats = torch.zeros(3, 4)
    options: dict[str, Any] = {"sampler": ZONE, "count": 1}
    for excluded in (floats, floats.__getitem__):
        with pytest.raises(
            ValueError, match=r"excluded must be a mask of bool, not torch\.float32"
        ):
            negatives_of_embeddings(queries, items, target, excluded=excluded, **options)
    with pytest.raises(ValueError, match=r"the sampler must return a mask \(3, 4\) of bool"):
        negatives_of_embeddings(queries, items, target, sampler=lambda s, t, e: s, count=1)


def test_several_tokens_need_a_similarity() -> None:
    queries, items = units(0, 9), units(1, 60).view(20, 3, 8)
    target = torch.arange(9)
    with pytest.raises(
        ValueError, match=r"candidates \(20, 3, 8\) have several tokens: give a sim"
    ):
        negatives_of_embeddings(queries, items, target, sampler=ZONE, count=2)
    ids = negatives_of_embeddings(
        queries, items, target, sampler=ZONE, count=2, similarity=best_token
    )
    scores = best_token(queries, items)
    assert torch.equal(ids, negatives_of_scores(scores, target, ZONE, count=2))
