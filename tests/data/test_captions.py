from __future__ import annotations

import random
from typing import Any

import pytest

from cir_plugins.data.captions import CAPTION_SWITCHES, Captions, CaptionSwitches
from cir_plugins.data.readers.circo import CIRCO
from cir_plugins.data.readers.cirr import CIRR
from cir_plugins.data.readers.fashioniq import FashionIQ
from cir_plugins.plugins.options import described_options, options_of

PAIR = (" Is Red. ", "has Sleeves?")


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({}, ["Is Red and has Sleeves"]),
        ({"strip": False}, [" Is Red.  and has Sleeves?"]),
        ({"capitalise": True}, ["Is red and has Sleeves"]),
        ({"lower": True}, ["is red and has sleeves"]),
        ({"mode": "space"}, ["Is Red has Sleeves"]),
        ({"mode": "four_way"}, ["Is Red and has Sleeves"]),
        ({"mode": "both_orders"}, ["Is Red and has Sleeves", "has Sleeves and Is Red"]),
        ({"mode": "single"}, ["Is Red", "has Sleeves"]),
        ({"mode": "category_and_it"}, ["dress Is Red and it has Sleeves"]),
        ({"strip": False, "symbols": "blank"}, ["Is Red and has Sleeves?"]),
        ({"strip": False, "symbols": "words"}, [" Is Reddotmark  and has Sleevesquestionmark"]),
        ({"max_words": 4}, ["Is Red and has"]),
        ({"max_words": 50}, ["Is Red and has Sleeves"]),
        ({"prefix": "a photo of $ that {}"}, ["a photo of $ that Is Red and has Sleeves"]),
    ],
)
def test_each_switch_alone(options: dict[str, Any], texts: list[str]) -> None:
    assert list(Captions(**options).texts(PAIR, "dress")) == texts


@pytest.mark.parametrize("mode", ["and", "both_orders", "single", "four_way", "space"])
@pytest.mark.parametrize("pair", [("is red", ""), ("", "is red"), ("is red", " . ")])
def test_an_empty_caption_leaves_the_other(mode: Any, pair: tuple[str, str]) -> None:
    assert Captions(mode).texts(pair) == ("is red",)


def test_empty_captions_give_one_empty_text() -> None:
    assert Captions("both_orders").texts(("", " ")) == ("",)


def test_a_single_caption_is_taken_as_it_is() -> None:
    raw = Captions(strip=False)
    assert raw.texts(("Show two dogs. On a boat, too",)) == ("Show two dogs. On a boat, too",)


def test_lavis_symbols_become_blanks_that_collapse() -> None:
    text = Captions(strip=False, symbols="blank", lower=True).texts(('A(b)*c: "d" #e; ~f!',))[0]
    assert text == "a b c d e f"


def test_braces_in_captions_are_harmless() -> None:
    assert Captions(prefix="that {}").texts(("has {0} {x}",)) == ("that has {0} {x}",)


def test_edit_comes_before_everything_else() -> None:
    rules = Captions(capitalise=True)
    assert rules.texts(("is red.", "long"), caption_edit="to ".__add__) == (
        "To is red and to long",
    )


def test_four_way_draws_each_reading_equally_often() -> None:
    rules, rng = Captions("four_way", capitalise=True), random.Random(0)
    drawn = [rules.draw(("is red", "is long"), "", 0, rng) for _ in range(2000)]
    readings = ["Is red and is long", "Is long and is red", "Is red", "Is long"]
    assert set(drawn) == set(readings)
    assert all(430 < drawn.count(reading) < 570 for reading in readings)


def test_other_modes_draw_the_triplets_own_text() -> None:
    rules, rng = Captions("both_orders"), random.Random(0)
    texts = rules.texts(PAIR)
    assert [rules.draw(PAIR, "", order, rng) for order in (0, 1)] == list(texts)
    assert rules.draw(("is red", ""), "", 1, rng) == "is red"


@pytest.mark.parametrize("reader", [FashionIQ, CIRR, CIRCO])
def test_every_reader_has_the_same_switches(reader: Any) -> None:
    """Four lists of the same six options were synchronised by hand."""
    options = options_of(reader)
    assert tuple(options)[-len(CAPTION_SWITCHES) :] == CAPTION_SWITCHES
    assert all(option.text for option in described_options(reader).values())
    rules = reader(lower=True, max_words=3).caption_rules("space")
    assert rules == Captions(
        "space", strip=reader().strip, capitalise=reader().capitalise, lower=True, max_words=3
    )


def test_a_readers_own_defaults_stay_its_own() -> None:
    defaults = [(reader().strip, reader().capitalise) for reader in (FashionIQ, CIRR, CIRCO)]
    assert defaults == [(True, True), (False, False), (False, False)]
    assert CaptionSwitches().caption_rules() == Captions()
