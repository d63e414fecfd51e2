"""Pictures of an audit: shares, differences with intervals, means of slices, likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cir_plugins.audits.pooled import MAIN, Pooled
from cir_plugins.audits.tables import Change, Row
from cir_plugins.bench.curves import COLOURS, SETTINGS, as_svg

_WIDTH, _BINS, _MOST_ROWS, _LONGEST = 5.6, 40, 24, 44


def bars(rows: Sequence[Row], title: str, measure: str = MAIN) -> str:
    """Data URI of a measure [%] of each row, the first row's as a line; "" without rows."""
    shown = [row for row in rows if measure in row.measures][:_MOST_ROWS]
    if len(shown) < 2:
        return ""
    first, *others = shown
    names = [f"{row.name} ({row.queries:,})" for row in others]
    values = [100 * row.measures[measure] for row in others]
    with rc_context(SETTINGS):
        figure, axes = _figure(len(others))
        axes.barh(range(len(others)), values, color=COLOURS[0], height=0.66)
        axes.axvline(100 * first.measures[measure], color=COLOURS[1], linestyle="--", linewidth=1.6)
        _label(axes, names, f"{title} [%], dashed: {first.name}")
        axes.set_xlim(0, max(1.0, 1.05 * max(*values, 100 * first.measures[measure])))
        return as_svg(figure)


def shares(solved: Mapping[str, float], k: int) -> str:
    """Data URI of the share of queries [%] that each ranking solves."""
    with rc_context(SETTINGS):
        figure, axes = _figure(len(solved))
        axes.barh(
            range(len(solved)), [100 * each for each in solved.values()], color=COLOURS, height=0.66
        )
        _label(axes, list(solved), f"queries with the target among the first {k} [%]")
        axes.set_xlim(0, 100)
        return as_svg(figure)


def differences(changes: Sequence[Change]) -> str:
    """Data URI of differences [points of a percent] with their intervals; "" without any."""
    if not changes:
        return ""
    with rc_context(SETTINGS):
        figure, axes = _figure(len(changes))
        middle = np.array([100 * each.difference for each in changes])
        low = middle - [100 * each.low for each in changes]
        high = np.array([100 * each.high for each in changes]) - middle
        axes.errorbar(
            middle,
            range(len(changes)),
            # Rounding may put a bound on the other side of the mean.
            xerr=np.maximum([low, high], 0),
            fmt="o",
            color=COLOURS[0],
            capsize=3,
        )
        axes.axvline(0, color="#59636e", linewidth=1)
        names = [f"{each.name} ({each.queries:,})" for each in changes]
        _label(axes, names, "after minus before, percentage points, 95 % interval")
        return as_svg(figure)


def likeness(pooled: Pooled, near: float) -> str:
    """Data URI of two histograms: target to nearest gallery image, and target to reference."""
    nearest = torch.cat([part.twins.nearest for part in pooled.parts])
    pair = torch.cat([part.twins.pair for part in pooled.parts])
    series = {"target to nearest other gallery image": nearest, "target to reference": pair}
    finite = {name: each[~each.isnan()].numpy() for name, each in series.items()}
    finite = {name: each for name, each in finite.items() if len(each)}
    if not finite:
        return ""
    low = min(float(each.min()) for each in finite.values())
    bins = np.linspace(min(low, 0.99), 1.0, _BINS).tolist()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (name, each) in enumerate(finite.items()):
            axes.hist(each, bins, label=name, alpha=0.65, color=COLOURS[number])
        axes.axvline(near, color="#59636e", linestyle="--", linewidth=1.2)
        axes.set_xlabel(f"likeness, dashed: {near:g}")
        axes.set_ylabel("queries")
        figure.legend(loc="outside lower center", fontsize=10)
        return as_svg(figure)


def _figure(rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, 1.3 + 0.34 * rows), layout="constrained")
    return figure, figure.subplots()


def _label(axes: Axes, names: Sequence[str], title: str) -> None:
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    axes.set_yticks(range(len(short)), short)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_axisbelow(True)
    # Under the whole figure: below the axes alone a long title would be cut off.
    axes.figure.supxlabel(title, fontsize=10)
