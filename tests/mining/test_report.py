from __future__ import annotations

import pytest
import torch

from cir_plugins.mining.report import BINS, MOST_ROWS, PoolStatistics

NO_POSITIVES = (torch.empty(0).long(), torch.empty(0).long())


def test_numbers_by_hand() -> None:
    statistics = PoolStatistics(3)
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    positives = (torch.tensor([0, 0, 1, 1]), torch.tensor([1, 2, 0, 3]))
    scores = torch.tensor([[0.5, 0.25, 1.0, -0.5], [0.0] * 4])
    target = torch.tensor([2, 0])
    statistics.add(mask, positives)
    statistics.add_scores(scores, target, mask, torch.tensor([True, False]))
    statistics.add(torch.tensor([[True, False, False, False]]), NO_POSITIVES)
    # of the columns 1 and 2 drawn before only 1 is in
    statistics.add_previous(torch.tensor([[1, -1, 2], [-1, -1, -1]]), mask)
    report = statistics.report()
    # sizes 3, 0, 1
    assert report["negative_pool"] == {"mean": 4 / 3, "quartiles": [0.5, 1.0, 2.0]}
    assert report["empty"] == 1 / 3
    assert report["false_negatives"] == 1 / 4
    assert report["fallback"] == 1 / 2
    assert report["kept"] == 1 / 2
    # of 1, 0.5, 0.25 and -0.5; the row without negatives has no ranks
    assert report["ranks"] == {"target": 1.0, "nearest": 2.0, "farthest": 4.0}
    # score gaps 0.5, 0.75, 1.5 in bins of 0.02 from -2
    counts = report["score_gap"]["counts"]
    assert report["score_gap"]["span"] == [-2.0, 2.0]
    assert len(counts) == BINS
    assert sum(counts) == 3
    assert [place for place, number in enumerate(counts) if number] == [125, 137, 175]


def test_ranks_are_medians_over_the_rows_with_negatives() -> None:
    """Of ten candidates: the zone at 3 to 5, 4 to 4 and 9 to 10, the target at 2, 1 and 6."""
    scores = torch.arange(10, 0, -1).float().repeat(4, 1)
    mask = torch.zeros(4, 10, dtype=torch.bool)
    mask[0, 2:5] = mask[1, 3] = mask[2, 8:] = True
    statistics = PoolStatistics(4)
    for rows in (slice(0, 1), slice(1, 4)):
        target = torch.tensor([1, 0, 5, 0])[rows]
        statistics.add(mask[rows])
        statistics.add_scores(scores[rows], target, mask[rows], None)
    report = statistics.report()
    assert report["ranks"] == {"target": 2.0, "nearest": 4.0, "farthest": 5.0}
    shares = [PoolStatistics(4), PoolStatistics(4)]
    for share, rows in zip(shares, (slice(0, 2), slice(2, 4)), strict=True):
        share.add(mask[rows])
        share.add_scores(scores[rows], torch.tensor([1, 0, 5, 0])[rows], mask[rows], None)
    assert PoolStatistics.joined(shares).report() == report


@pytest.mark.parametrize("columns", [1, 2039, 2040, 2041, 7000])
def test_sizes_of_any_width(columns: int) -> None:
    mask = torch.rand(5, columns, generator=torch.Generator().manual_seed(0)) < 0.9
    mask[0] = True
    mask[1] = False
    statistics = PoolStatistics(5)
    statistics.add(mask, NO_POSITIVES)
    statistics.add(mask[:, ::2], NO_POSITIVES)
    sizes = [float(row.sum()) for mask_slice in (mask, mask[:, ::2]) for row in mask_slice]
    sizes_of_pools = statistics.report()["negative_pool"]
    assert sizes_of_pools["mean"] == pytest.approx(sum(sizes) / 10)
    assert sizes_of_pools["quartiles"][1] == pytest.approx(sum(sorted(sizes)[4:6]) / 2)


def test_what_was_not_counted_is_left_out() -> None:
    statistics = PoolStatistics(3)
    statistics.add(torch.zeros(2, 3, dtype=torch.bool), NO_POSITIVES)
    assert statistics.report() == {
        "negative_pool": {"mean": 0.0, "quartiles": [0.0, 0.0, 0.0]},
        "empty": 1.0,
        "false_negatives": 0.0,
    }


def test_of_many_rows_some_stand_for_all() -> None:
    """A histogram of every pair would take longer than the mining."""
    rows = 2 * MOST_ROWS
    statistics = PoolStatistics(rows)
    scores = torch.tensor([[1.0, 0.5]]).repeat(rows, 1)
    target = torch.zeros(rows, dtype=torch.long)
    mask = torch.tensor([[False, True]]).repeat(rows, 1)
    for first in range(0, rows, 1000):  # blocks of a length that the stride does not divide evenly
        block = slice(first, first + 1000)
        statistics.add(mask[block], NO_POSITIVES)
        statistics.add_scores(scores[block], target[block], mask[block], None)
    assert sum(statistics.report()["score_gap"]["counts"]) == MOST_ROWS
