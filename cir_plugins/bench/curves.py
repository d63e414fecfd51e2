"""Training curves and the score drops of mined negatives, as SVG pictures."""

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

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow and its black left
# out (too pale a line, and the colour of the text). Line styles and markers tell the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SETTINGS = {
    "svg.fonttype": "path",
    "svg.hashsalt": "cir-plugins",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
}

Series = Mapping[str, Sequence[Mapping[int, float]]]


def loss_picture(records: Sequence[RunRecord]) -> str:
    """Data URI of the loss per epoch, a line per row; "" where nothing was trained."""
    return _lines(_series(records, lambda line: line.get("loss")), "training loss")


def main_picture(records: Sequence[RunRecord], title: str) -> str:
    """Data URI of the main measure in percent per epoch, a line per row; "" without validation."""
    found = _series(records, lambda line: 100 * line["main"] if "main" in line else None)
    return _lines(found, f"{title} [%]")


def drop_picture(refreshes: Sequence[Mapping[str, Any]]) -> str:
    """Data URI of the histograms of score drops from target to pool, first and last refresh.

    Args:
        refreshes: Lines of a curve that have ``mining``; those mined at random have no drops.
    """
    known = [line for line in refreshes if "drop" in line["mining"]]
    if not known:
        return ""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(5.2, 2.6), layout="constrained")
        axes = figure.subplots()
        ends = [known[0], known[-1]] if len(known) > 1 else [known[-1]]
        inside: list[float] = []
        for place, line in enumerate(ends):
            drop = line["mining"]["drop"]
            counts = np.asarray(drop["counts"], dtype=float)
            edges = np.linspace(drop["span"][0], drop["span"][1], len(counts) + 1)
            shares = 100 * counts / counts.sum()
            filled = np.flatnonzero(counts)
            inside += [float(edges[filled[0]]), float(edges[filled[-1] + 1])]
            axes.stairs(
                shares,
                edges,
                label=f"refresh at epoch {line['epoch'] + 1}",
                color=COLOURS[place],
                linestyle=_STYLES[place],
                linewidth=2,
            )
        axes.set_xlim(min(0.0, *inside), max(inside))
        axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
        axes.set_xlabel("cosine of the target minus cosine of the negative")
        axes.set_ylabel("share of the pool [%]")
        axes.legend()
        return _svg(figure)


def _series(
    records: Sequence[RunRecord], value: Callable[[Mapping[str, Any]], float | None]
) -> dict[str, list[dict[int, float]]]:
    """Per label and run: epoch (from 1) -> value."""
    found: dict[str, list[dict[int, float]]] = {}
    for record in records:
        pairs = {line["epoch"] + 1: value(line) for line in record.curve}
        points = {epoch: number for epoch, number in pairs.items() if number is not None}
        if points:
            found.setdefault(record.label, []).append(points)
    return found


def _lines(series: Series, title: str) -> str:
    """Mean over the runs as a line, least to greatest as a band."""
    if not series:
        return ""
    with rc_context(_SETTINGS):
        rows = -(-len(series) // 2)
        figure = Figure(figsize=(5.2, 3.3 + 0.24 * rows), layout="constrained")
        axes: Axes = figure.subplots()
        for place, (label, runs) in enumerate(series.items()):
            epochs = sorted(set.intersection(*(set(run) for run in runs)))
            if not epochs:
                continue
            values = np.array([[run[epoch] for epoch in epochs] for run in runs])  # (runs, epochs)
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(
                epochs,
                values.mean(axis=0),
                label=label,
                color=colour,
                linestyle=_STYLES[place // len(COLOURS) % len(_STYLES)],
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=4.5,
                linewidth=1.8,
            )
            if len(runs) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2, fontsize=10)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode()
