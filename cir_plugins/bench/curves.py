"""Training curves as SVG pictures, and the style of all pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cir_plugins.bench.records import RunRecord

# Okabe and Ito's palette, distinct for colour-blind readers; its yellow and its black left
# out (too pale a line, and the colour of the text). Line styles and markers do the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
SETTINGS = {
    "svg.fonttype": "path",
    "svg.hashsalt": "cir-plugins",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "text.parse_math": False,  # labels of users may hold a dollar sign
}

Series = Mapping[str, Sequence[Mapping[int, float]]]


def loss_picture(records: Sequence[RunRecord]) -> str:
    """Data URI of the training loss per epoch, a line per method; "" without training."""
    return _lines(_series(records, lambda line: line.get("loss")), "training loss")


def main_picture(records: Sequence[RunRecord], title: str) -> str:
    """Data URI of the main measure [%] per epoch, a line per method; "" without validation."""
    series = _series(records, lambda line: 100 * line["main"] if "main" in line else None)
    return _lines(series, f"{title} [%]")


def _series(
    records: Sequence[RunRecord], value: Callable[[Mapping[str, Any]], float | None]
) -> dict[str, list[dict[int, float]]]:
    """Per label and run: epoch (from 1) -> value."""
    series: dict[str, list[dict[int, float]]] = {}
    for record in records:
        pairs = {line["epoch"] + 1: value(line) for line in record.curve}
        points = {epoch: number for epoch, number in pairs.items() if number is not None}
        if points:
            series.setdefault(record.label, []).append(points)
    return series


def _lines(series: Series, title: str) -> str:
    """Data URI of the mean over the runs as a line, minimum to maximum as a band."""
    if not series:
        return ""
    with rc_context(SETTINGS):
        return as_svg(curve_figure(series, title))


def curve_figure(series: Series, title: str) -> Figure:
    """Figure of values by epoch: mean over the runs as a line, minimum to maximum as a band.

    Args:
        series: Label -> epoch (from 1) -> value, for each run.
        title: Title of the vertical axis.
    """
    rows = -(-len(series) // 2)
    figure = Figure(figsize=(5.2, 3.3 + 0.24 * rows), layout="constrained")
    axes: Axes = figure.subplots()
    labels = []
    for number, (label, runs) in enumerate(series.items()):
        epochs = sorted(set.intersection(*(set(run) for run in runs)))
        if not epochs:
            continue
        values = np.array([[run[epoch] for epoch in epochs] for run in runs])  # (runs, epochs)
        colour = COLOURS[number % len(COLOURS)]
        labels.append(label)
        axes.plot(
            epochs,
            values.mean(axis=0),
            label=f"line {number}",
            color=colour,
            linestyle=STYLES[number // len(COLOURS) % len(STYLES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4.5,
            linewidth=1.8,
        )
        if len(runs) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
    epoch_axis(axes)
    axes.set_ylabel(title)
    legend = figure.legend(loc="outside lower center", ncols=2, fontsize=10)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)  # only now: a line whose label starts with "_" gets no legend
    return figure


def epoch_axis(axes: Axes) -> None:
    """Label the horizontal axis with whole epochs, even where there is only one."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def as_svg(figure: Figure) -> str:
    """Data URI of a figure; the same bytes for the same figure."""
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode()
