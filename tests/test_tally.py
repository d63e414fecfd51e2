from __future__ import annotations

import torch

from cir_plugins.tally import BINS, Tally


def test_numbers_by_hand() -> None:
    tally = Tally()
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    answers = torch.tensor([[False, True, True, False], [True] * 4])
    scores = torch.tensor([[0.5, 0.25, 1.0, -0.5], [0.0] * 4])
    target = torch.tensor([2, 0])
    tally.add(mask, answers)
    tally.add_scores(scores, target, mask, torch.tensor([True, False]))
    tally.add(torch.tensor([[True, False, False, False]]), torch.zeros(1, 4, dtype=torch.bool))
    # of the images 11, 12, 13 drawn before, 11 and 13 are columns 1 and 2; only column 1 is in
    tally.add_previous(torch.tensor([[11, 12, 13], [-1, -1, -1]]), mask, {11: 1, 13: 2})
    report = tally.report()
    # sizes 3, 0, 1
    assert report["pool"] == {"mean": 4 / 3, "quartiles": [0.5, 1.0, 2.0]}
    assert report["empty"] == 1 / 3
    assert report["false_negatives"] == 1 / 4
    assert report["fallback"] == 1 / 2
    assert report["kept"] == 1 / 2
    # drops 0.5, 0.75, 1.5 in bins of 0.02 from -2
    counts = report["drop"]["counts"]
    assert report["drop"]["span"] == [-2.0, 2.0]
    assert len(counts) == BINS
    assert sum(counts) == 3
    assert [place for place, number in enumerate(counts) if number] == [125, 137, 175]


def test_what_was_not_counted_is_left_out() -> None:
    tally = Tally()
    tally.add(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool))
    assert tally.report() == {
        "pool": {"mean": 0.0, "quartiles": [0.0, 0.0, 0.0]},
        "empty": 1.0,
        "false_negatives": 0.0,
    }
