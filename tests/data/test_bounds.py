from __future__ import annotations

import itertools

import pytest

from cir_plugins.data.bounds import bounds_in_words, recall_bounds


def test_bounds_by_hand() -> None:
    """0.4 * 80 / 100 = 0.32 and (0.5 * 80 + 20) / 100 = 0.6."""
    assert recall_bounds(0.5, 0.4, 100, 20) == pytest.approx((0.32, 0.6))
    assert recall_bounds(0.5, 0.5, 10, 0) == (0.5, 0.5)
    assert recall_bounds(0.0, 0.0, 4, 4) == (0, 1)


def test_no_completion_lies_outside() -> None:
    """Three queries of ranks 1, 2, 3 are left of five, and one of the gallery images is missing."""
    ranks, k = (1, 2, 3), 2
    recall = sum(rank <= k for rank in ranks) / 3
    bounds = recall_bounds(recall, sum(rank <= k - 1 for rank in ranks) / 3, 5, 2)
    values = [
        (sum(rank + push <= k for rank, push in zip(ranks, pushes, strict=True)) + sum(hits)) / 5
        for pushes in itertools.product((0, 1), repeat=3)
        for hits in itertools.product((0, 1), repeat=2)
    ]
    assert (min(values), max(values)) == pytest.approx(bounds)


def test_words() -> None:
    text = bounds_in_words(100, 20, 3)
    assert "between 0.800 r and 0.800 r + 0.200" in text
    assert "r below is Recall@(k - 3), 0 for k up to 3" in text
    with pytest.raises(ValueError, match="need 0 <= lost"):
        recall_bounds(0.5, 0.6, 1, 0)
