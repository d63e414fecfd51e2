from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from cir_plugins.audits.twins import twins_by_embedding, twins_by_hash
from cir_plugins.data.split import Query, Split


def split_of(paths: dict[str, Path], *queries: tuple[str, str]) -> Split:
    """A split of (reference, target) pairs; ``x`` stays outside the gallery."""
    made = tuple(
        Query(f"q{i}", reference, ("red",), "red", target, (target,))
        for i, (reference, target) in enumerate(queries)
    )
    gallery = tuple(name for name in paths if name != "x")
    return Split("made.val", "val", made, gallery, paths)


def test_near_duplicates_by_cosine() -> None:
    """Angles of 0, 10, 90 and 100 degrees, and 15 outside: cos 10 = 0.985, cos 15 = 0.966."""
    split = split_of(dict.fromkeys("abcdx", Path()), ("x", "a"), ("c", "d"), ("b", "b"))
    assert split.arrays.images == ("a", "b", "c", "d", "x")
    degrees = torch.tensor([0.0, 10.0, 90.0, 100.0, 15.0]).deg2rad()
    vectors = 7 * torch.stack([degrees.cos(), degrees.sin()], dim=1)  # no unit vectors
    twins = twins_by_embedding(split, vectors, 0.98)
    assert twins.of_target == (("b",), ("c",), ("a",))
    assert twins.of_reference == (("b",), ("d",), ("a",))
    cosine = math.cos(math.radians(10))
    assert twins.nearest.tolist() == pytest.approx([cosine, cosine, cosine])
    assert twins.pair.tolist() == pytest.approx([math.cos(math.radians(15)), cosine, 1.0])
    assert twins_by_embedding(split, vectors, 0.99).of_target == ((), (), ())


def test_several_vectors_of_an_image_count_as_their_mean() -> None:
    split = split_of(dict.fromkeys("ab", Path()), ("a", "b"))
    vectors = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert twins_by_embedding(split, vectors, 0.999).of_target == (("a",),)


def test_a_gallery_of_one_image_has_no_nearest(tmp_path: Path) -> None:
    split = split_of({"a": tmp_path}, ("a", "a"))
    twins = twins_by_embedding(split, torch.ones(1, 2), 0.5)
    assert twins.of_target == ((),)
    assert twins.nearest.isnan().all()


def test_near_duplicates_by_perceptual_hash(tmp_path: Path) -> None:
    """A smaller copy of an image is its near-duplicate, another image is none."""
    pytest.importorskip("imagehash", reason="needs imagehash (the extra 'duplicates')")
    across = Image.linear_gradient("L").convert("RGB")
    across.paste((250, 10, 10), (30, 60, 120, 200))
    pictures = {
        "a": across,
        "copy": across.resize((128, 128)),
        "other": Image.radial_gradient("L").convert("RGB"),
    }
    paths = {name: tmp_path / f"{name}.png" for name in pictures}
    for name, picture in pictures.items():
        picture.save(paths[name])
    twins = twins_by_hash(split_of(paths, ("other", "a")), 0.9)
    assert twins.of_target == (("copy",),)
    assert twins.of_reference == ((),)
    assert float(twins.pair) < 0.9
