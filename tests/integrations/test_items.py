from __future__ import annotations

import pytest
import torch
from PIL import Image

from cir_plugins.integrations.items import GroupedPositives, key
from tests.integrations.pictures import both


@pytest.mark.parametrize("seed", range(3))
def test_positives_of_groups_equal_a_slow_plain_reference(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 20, (30,), generator=rng)
    groupings = [torch.randint(0, 9, (30,), generator=rng).tolist() for _ in range(2)]
    right = GroupedPositives(groupings, target, 22)
    for rows in (slice(0, 30), slice(4, 11), slice(29, 30)):
        expected = torch.zeros(30, 22, dtype=torch.bool)
        for row in range(30):
            for other in range(30):
                if any(names[row] == names[other] for names in groupings):
                    expected[row, target[other]] = True
        assert torch.equal(right(rows), expected[rows])


def test_positives_take_memory_of_rows_not_pairs() -> None:
    """A mask of 100 000 rows by as many items is 10 GB."""
    rows = 100_000
    right = GroupedPositives(
        [range(rows), [row // 2 for row in range(rows)]], torch.arange(rows), rows
    )
    members = [member for group in right._groups for member in group]
    assert sum(member.numel() for member in members) <= 8 * rows
    assert right(slice(500, 503)).nonzero().tolist() == [
        [0, 500], [0, 501], [1, 500], [1, 501], [2, 502], [2, 503]
    ]  # fmt: skip


def test_what_makes_two_items_the_same() -> None:
    assert key(both(1, 5)) == key(both(1, 5)) != key(both(1, 6))
    assert len(str(key(Image.new("RGB", (500, 500))))) < 1000, "a copy of the bytes is held"
    assert key(Image.new("RGB", (4, 6))) != key(Image.new("RGB", (6, 4)))
    assert key([1, "a"]) == key([1, "a"]) != key([1, "b"])
    first, second = torch.zeros(2, 3).numpy(), torch.zeros(3, 2).numpy()
    assert key(first) == key(first.copy()) != key(second)
