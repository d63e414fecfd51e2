from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cir_plugins.data.duplicates import find_duplicates, near_groups
from cir_plugins.data.split import Query, Split


def query(number: int, reference: str, target: str) -> Query:
    return Query(str(number), reference, ("x",), "x", target, (target,))


def picture(file: Path, seed: int, shift: int = 0) -> Path:
    """A picture of coarse noise, so that no two seeds have like hashes."""
    noise = np.random.default_rng(seed).integers(0, 240, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise + np.uint8(shift)).resize((64, 64), Image.Resampling.NEAREST).save(file)
    return file


@pytest.fixture
def splits(tmp_path: Path) -> list[Split]:
    """Train t0, t1; val: a, its copy b, near-duplicate c, t1's copy d, t0's near-duplicate e, f."""
    seeds = {"t0": 0, "t1": 1, "a": 2, "b": 2, "c": 2, "d": 1, "e": 0, "f": 5}
    paths = {
        name: picture(tmp_path / f"{name}.png", seed, 2 if name in "ce" else 0)
        for name, seed in seeds.items()
    }
    train, val = ("t0", "t1"), ("a", "b", "c", "d", "e", "f")
    queries = (query(0, "f", "b"), query(1, "f", "a"), query(2, "a", "d"), query(3, "a", "c"))
    return [
        Split("train", "train", (query(0, "t0", "t1"),), train, {n: paths[n] for n in train}),
        Split("val", "val", queries, val, {n: paths[n] for n in val}, True, ("recall@1", "map@5")),
    ]


def test_repeated_pictures_of_each_split(splits: list[Split]) -> None:
    train, val = find_duplicates(splits)
    assert train.lines == []
    assert (val.equal, val.near) == (1, 1)
    assert (val.leaked, val.leaked_near) == (("d",), ("e",))
    assert val.leaked_targets == 1
    # b has a and c, a has b and c, c has b beside the reference a; d has none in the gallery.
    assert val.copied_targets == 3
    assert val.reference_is_target == 1
    assert "1 images have the bytes of a training picture" in val.lines


def test_equal_files_bound_recall(splits: list[Split]) -> None:
    """By hand: b comes after its copy a, so that query 0 is a miss of any method at rank 1."""
    val = find_duplicates(splits, near=-1)[1]
    assert val.ceilings == {"recall@1": 0.75}
    assert "no method can have a recall@1 above 75.00: an equal file comes first" in val.lines
    assert (val.near, val.leaked_near, val.reference_is_target) == (0, (), 0)


@pytest.mark.parametrize("near", [0, 1, 3])
def test_groups_are_those_of_a_slow_reference(near: int) -> None:
    rng = np.random.default_rng(near)
    hashes = rng.integers(0, 256, 60).astype(np.uint64)
    group = list(range(60))
    for _ in range(60):
        for one in range(60):
            for other in range(60):
                if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= near:
                    group[one] = group[other] = min(group[one], group[other])
    assert near_groups(hashes, near) == group


def test_many_hashes_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 64, 50).astype(np.uint64)
    whole = near_groups(hashes, 1)
    monkeypatch.setattr("cir_plugins.data.duplicates._CELLS", 7 * 50)
    assert near_groups(hashes, 1) == whole
