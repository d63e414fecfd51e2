from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from garments_plugin import Garment, draw_garment, sample_garment
from garments_plugin.kinds import CATEGORIES, KINDS, PATTERNS
from garments_plugin.palette import COLOURS, SHADES, luminance, sample_shade
from garments_plugin.sketch import Sketch, flipped, limb, mirrored, moved, outline


def plain(garment: str, colour: str, shade: tuple[int, int, int]) -> Garment:
    kind = KINDS[garment]
    sleeve = kind.sleeves[0][0] if kind.sleeves else None
    length = kind.lengths[0][0] if kind.lengths else None
    return Garment(garment, colour, "plain", sleeve, length, shade)


@pytest.mark.parametrize("garment", sorted(KINDS))
def test_every_kind_and_pattern_can_be_drawn(garment: str) -> None:
    for number, (pattern, _) in enumerate(KINDS[garment].patterns * 3):
        rng = np.random.default_rng(number)
        item = plain(garment, "red", sample_shade("red", rng))
        one = Garment(garment, "red", pattern, item.sleeve, item.length, item.shade)
        picture = draw_garment(one, rng, 32)
        assert (picture.mode, picture.size) == ("RGB", (32, 32))
        assert np.asarray(picture).std() > 3


def test_the_same_state_draws_the_same_picture() -> None:
    def once() -> np.ndarray:
        rng = np.random.default_rng([5, 1])
        return np.asarray(draw_garment(sample_garment(rng), rng, 64))

    assert np.array_equal(once(), once())


def test_samples_keep_to_their_kind_and_reach_everything() -> None:
    rng = np.random.default_rng(0)
    items = [sample_garment(rng) for _ in range(4000)]
    assert {item.garment for item in items} == set(KINDS)
    assert {item.colour for item in items} == set(COLOURS)
    assert {item.pattern for item in items} == set(PATTERNS)
    for item in items:
        kind = KINDS[item.garment]
        assert item.category == kind.category
        assert item.pattern in dict(kind.patterns)
        assert item.sleeve is None if not kind.sleeves else item.sleeve in dict(kind.sleeves)
        assert item.length is None if not kind.lengths else item.length in dict(kind.lengths)


def test_shares_are_respected() -> None:
    rng = np.random.default_rng(1)
    counts = Counter(sample_garment(rng, "bags").garment for _ in range(3000))
    for name, share in (("handbag", 1.0), ("backpack", 0.8), ("wallet", 0.7)):
        assert counts[name] / 3000 == pytest.approx(share / 2.5, abs=0.03)


def test_an_unknown_category_lists_the_categories() -> None:
    with pytest.raises(ValueError, match="category is 'hats'; it is one of toptee, shirt"):
        sample_garment(np.random.default_rng(0), "hats")
    for category in CATEGORIES:
        assert sample_garment(np.random.default_rng(0), category).category == category


def nearest(rgb: np.ndarray) -> str:
    """The colour whose nearest shade has the smallest distance."""
    return min(
        COLOURS,
        key=lambda name: min(float(np.abs(rgb - np.array(s)).sum()) for s in SHADES[name]),
    )


def test_drawn_cloth_has_the_colour_of_its_name() -> None:
    right = total = 0
    for colour in COLOURS:
        for number in range(12):
            rng = np.random.default_rng([number, COLOURS.index(colour)])
            item = plain("wallet", colour, sample_shade(colour, rng))
            picture = np.asarray(draw_garment(item, rng, 48), dtype=float)
            # A wallet covers the middle of its picture, wherever it is put.
            right += nearest(np.median(picture[21:27, 19:29].reshape(-1, 3), axis=0)) == colour
            total += 1
    assert right / total > 0.75


def test_shades_stay_apart_from_the_extremes() -> None:
    """Dark cloth is not black, and white cloth not white."""
    rng = np.random.default_rng(0)
    blacks = [luminance(sample_shade("black", rng)) for _ in range(100)]
    whites = [luminance(sample_shade("white", rng)) for _ in range(100)]
    assert 15 < min(blacks) < max(blacks) < 70
    assert 200 < min(whites) < max(whites) < 250


def test_luminance_by_hand() -> None:
    assert luminance((100, 200, 50)) == pytest.approx(29.9 + 117.4 + 5.7)


def test_a_left_bulge_rises() -> None:
    """A bulge to the left rises above a way to the right."""
    # From (0, 0) to (2, 0) with bulge 0.25: the crown lies 0.25 * 2 above the middle.
    line = outline([(0.0, 0.0, 0.25), (2.0, 0.0)], closed=False)
    assert line[3] == pytest.approx([1.0, -0.5])
    assert line[0] == pytest.approx([0.0, 0.0])
    assert line[-1] == pytest.approx([2.0, 0.0])


def test_mirrored_outlines_are_symmetrical() -> None:
    shape = mirrored([(0.2, -1.0, 0.1), (0.5, 0.0, -0.05), (0.3, 1.0)], 0.1)
    left = {tuple(np.round(p, 9) + 0.0) for p in flipped(shape)}
    right = {tuple(np.round(p, 9) + 0.0) for p in shape}
    # Curves are sampled from one end, so only the corners coincide.
    assert {(0.2, -1.0), (0.5, 0.0), (0.3, 1.0)} <= left & right
    assert shape[:, 0].max() == pytest.approx(-shape[:, 0].min(), abs=0.02)


def test_limbs_and_moves_by_hand() -> None:
    band = limb([(0.0, 0.0), (1.0, 0.0)], (0.2, 0.4))
    assert band == pytest.approx(np.array([[0, -0.1], [1, -0.2], [1, 0.2], [0, 0.1]]))
    turned = moved(np.array([[1.0, 0.0]]), 2.0, 3.0, turn=np.pi / 2, scale=2.0)
    assert turned == pytest.approx(np.array([[2.0, 5.0]]))


def test_a_sketch_keeps_drawing_order() -> None:
    sketch = Sketch()
    square = outline([(0, 0), (1, 0), (1, 1), (0, 1)])
    sketch.fill(square, (1, 2, 3))
    sketch.cloth(square)
    sketch.line(square)
    assert [mark.layer for mark in sketch.marks] == ["fill", "cloth", "line"]


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, garments_plugin as g; assert 'numpy' not in sys.modules\n"
        "g.write_garments; assert 'torch' not in sys.modules; print(sorted(g.__all__)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Garment"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import garments_plugin as package

    with pytest.raises(AttributeError, match="no attribute 'dressmaker'"):
        _ = package.dressmaker
