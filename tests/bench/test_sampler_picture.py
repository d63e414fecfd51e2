from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from cir_plugins.bench.sampler_picture import sampler_figure, sampler_png, sampler_svg
from cir_plugins.bench.sampling import SamplerReport, sampler_report

POOL = {"mean": 9.0, "quartiles": [8.0, 9.0, 10.0]}
AT_RANDOM: dict[str, Any] = {"negative_pool": POOL, "empty": 0.0, "false_negatives": 0.0}
GAPS = {"score_gap": {"span": [-2.0, 2.0], "counts": [0, 0, 3, 1]}}


def report(*minings: dict[str, Any]) -> SamplerReport:
    return sampler_report([{"epoch": i, "mining": mining} for i, mining in enumerate(minings)])


def test_png_is_a_picture_of_the_stated_size() -> None:
    with Image.open(io.BytesIO(sampler_png(report(AT_RANDOM, {**AT_RANDOM, **GAPS})))) as image:
        assert image.format == "PNG"
        assert image.size == (1560, 480)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_first_and_last_refresh_have_a_histogram_each() -> None:
    mined = {**AT_RANDOM, **GAPS}
    histograms = [
        len(sampler_figure(report(*minings)).axes[2].patches)
        for minings in ([AT_RANDOM], [AT_RANDOM, mined], [mined, mined, mined])
    ]
    assert histograms == [0, 1, 2]


def test_the_same_report_gives_the_same_bytes() -> None:
    made = report(AT_RANDOM, {**AT_RANDOM, **GAPS})
    assert sampler_svg(made) == sampler_svg(made)
    assert sampler_svg(made).startswith("data:image/svg+xml;base64,")


def test_nothing_mined_nothing_drawn() -> None:
    assert sampler_svg(report()) == ""
    with pytest.raises(ValueError, match="without refreshes"):
        sampler_png(report())
