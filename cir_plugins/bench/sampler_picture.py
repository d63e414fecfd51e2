"""Picture of a sampler report: sizes of the negative pools, shares, and score gaps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cir_plugins.bench.curves import COLOURS, MARKERS, SETTINGS, STYLES, as_svg, epoch_axis
from cir_plugins.bench.sampling import SHARES, SamplerReport


def sampler_svg(report: SamplerReport) -> str:
    """Data URI of the picture; "" where nothing was mined."""
    if not report.lines:
        return ""
    with rc_context(SETTINGS):
        return as_svg(sampler_figure(report))


def sampler_png(report: SamplerReport) -> bytes:
    """The picture as a PNG file of 1,560 x 480 pixels.

    Raises:
        ValueError: If nothing was mined.
    """
    if not report.lines:
        raise ValueError("a report without refreshes has no picture")
    data = io.BytesIO()
    with rc_context(SETTINGS):
        sampler_figure(report).savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()


def sampler_figure(report: SamplerReport) -> Figure:
    """Three panels: negative pool and shares by epoch, score gaps at first and last refresh."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    sizes, shares, gaps = figure.subplots(1, 3)
    _sizes(sizes, report.lines)
    _shares(shares, report.lines)
    _score_gaps(gaps, report.lines)
    return figure


def _sizes(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    epochs = [line["epoch"] + 1 for line in lines]
    sizes = [line["mining"]["negative_pool"] for line in lines]
    quartiles = np.array([size["quartiles"] for size in sizes])  # (refreshes, 3)
    means = [size["mean"] for size in sizes]
    axes.fill_between(epochs, quartiles[:, 0], quartiles[:, 2], color=COLOURS[0], alpha=0.18)
    axes.plot(epochs, quartiles[:, 1], color=COLOURS[0], marker="o", label="median, quartiles")
    axes.plot(epochs, means, color=COLOURS[1], linestyle="--", marker="s", label="mean")
    axes.set_ylim(bottom=0)
    axes.set_title("size of the negative pool")
    axes.set_ylabel("images per query")
    epoch_axis(axes)
    axes.legend()


def _shares(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for number, name in enumerate(SHARES):
        points = [
            (line["epoch"] + 1, 100 * line["mining"][name])
            for line in lines
            if name in line["mining"]
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[number],
                linestyle=STYLES[number],
                marker=MARKERS[number],
                label=name.replace("_", " "),
            )
    axes.set_ylim(-3, 103)
    axes.set_title("shares")
    axes.set_ylabel("share [%]")
    epoch_axis(axes)
    axes.legend()


def _score_gaps(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Histograms of score gaps at the first and the last refresh with the model's scores."""
    refreshes = [line for line in lines if "score_gap" in line["mining"]]
    axes.set_title("score gaps of the negative pool")
    if not refreshes:
        axes.text(0.5, 0.5, "drawn at random", ha="center", transform=axes.transAxes)
        return
    bounds: list[float] = []
    for number, line in enumerate(
        refreshes if len(refreshes) < 2 else [refreshes[0], refreshes[-1]]
    ):
        gap = line["mining"]["score_gap"]
        counts = np.asarray(gap["counts"], dtype=float)
        edges = np.linspace(gap["span"][0], gap["span"][1], len(counts) + 1)
        filled = np.flatnonzero(counts)
        bounds += [float(edges[filled[0]]), float(edges[filled[-1] + 1])]
        axes.stairs(
            100 * counts / counts.sum(),
            edges,
            label=f"refresh at epoch {line['epoch'] + 1}",
            color=COLOURS[number],
            linestyle=STYLES[number],
            linewidth=2,
        )
    axes.set_xlim(min(0.0, *bounds), max(bounds))
    axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
    axes.set_xlabel("score gap (Δ): target minus negative")
    axes.set_ylabel("share of the negative pool [%]")
    axes.legend()
