from __future__ import annotations

import base64
from xml.etree import ElementTree

import pytest

from cir_plugins.bench.curves import COLOURS, curve_figure, loss_picture, main_picture
from tests.bench.toy import record

LINES = tuple({"epoch": i, "loss": 2.0 - i, "main": 0.1 * i} for i in range(3))


def colours(picture: str) -> set[str]:
    """Colours of the strokes in the picture, lower-case."""
    head, _, data = picture.partition(",")
    assert head == "data:image/svg+xml;base64"
    text = base64.b64decode(data).decode()
    assert "href='http" not in text
    root = ElementTree.fromstring(text)
    styles = " ".join(element.get("style", "") for element in root.iter()).lower()
    return {colour for colour in map(str.lower, COLOURS) if f"stroke: {colour}" in styles}


def test_line_per_method_in_order_of_the_palette() -> None:
    runs = [record(label, seed, {"s": [1.0]}, curve=LINES) for label in "ab" for seed in (0, 1)]
    runs.append(record("untrained", 0, {"s": [1.0]}))
    for picture in (loss_picture(runs), main_picture(runs, "R@10")):
        assert colours(picture) == {COLOURS[0].lower(), COLOURS[1].lower()}
    assert loss_picture(runs) == loss_picture(runs)


def test_more_rows_than_colours() -> None:
    runs = [record(f"row {i}", 0, {"s": [1.0]}, curve=LINES) for i in range(8)]
    assert len(colours(loss_picture(runs))) == len(COLOURS)


def test_no_picture_where_there_is_nothing_to_draw() -> None:
    untrained = [record("a", 0, {"s": [1.0]})]
    assert loss_picture(untrained) == ""
    assert main_picture(untrained, "R@10") == ""
    unvalidated = [record("a", 0, {"s": [1.0]}, curve=({"epoch": 0, "loss": 1.0},))]
    assert main_picture(unvalidated, "R@10") == ""
    assert loss_picture(unvalidated)


def test_seeds_of_unequal_length_share_epochs() -> None:
    runs = [
        record("a", 0, {"s": [1.0]}, curve=LINES),
        record("a", 1, {"s": [1.0]}, curve=LINES[:1]),
        record("b", 0, {"s": [1.0]}, curve=LINES[:1]),
        record("b", 1, {"s": [1.0]}, curve=LINES[1:]),
    ]
    assert colours(loss_picture(runs)) == {COLOURS[0].lower()}


def test_labels_are_shown_as_they_are() -> None:
    """Dollar signs were mathematics, and a label with an underscore first had no legend."""
    labels = ["lr $10^{-5$", "_small", r"a\b", "100 %"]
    figure = curve_figure({label: [{1: 0.5, 2: 1.0}] for label in labels}, "R@10 [%]")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == labels
    runs = [record(label, 0, {"s": [1.0]}, curve=LINES) for label in labels]
    assert len(colours(loss_picture(runs))) == len(labels)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_ticks_are_whole_epochs(epochs: int) -> None:
    """A run of one epoch had ticks from 0.945 to 1.050."""
    figure = curve_figure({"a": [{epoch + 1: 0.5 for epoch in range(epochs)}]}, "loss")
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)
