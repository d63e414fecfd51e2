from __future__ import annotations

import re

import numpy as np
import pytest

from garments_plugin.captions import captions, clause, full_caption, noun
from garments_plugin.triplets import changed_attributes, make_triplets, mean_positives
from garments_plugin.words import (
    LENGTH_CLAUSES,
    PATTERN_CLAUSES,
    PATTERN_NOUNS,
    SLEEVE_CLAUSES,
    WORDS,
)
from tests.garments.conftest import DrawnSet

SAID = {"pattern": PATTERN_CLAUSES, "sleeve": SLEEVE_CLAUSES, "length": LENGTH_CLAUSES}


def states(text: str, name: str, value: str) -> bool:
    """Whether a text states a value: by its word, or by a clause of the tables."""
    words = {value}
    if name == "colour" and value == "grey":
        words.add("gray")
    elif name == "garment":
        words |= set(WORDS.get(value, ()))
    elif name == "sleeve" and value == "none":
        words |= {"without sleeves", "sleeveless", "no sleeves"}
    elif name in SAID:
        words |= set(SAID[name][value])
        words |= {PATTERN_NOUNS[value]} if value in PATTERN_NOUNS else set()
    return any(re.search(rf"\b{re.escape(word)}\b", text) for word in words)


def test_triplets_change_exactly_their_kind(drawn: DrawnSet) -> None:
    """A triplet changes the attributes of its kind and no others."""
    attributes = drawn.attributes
    seen = set()
    for _, _, triplets, kinds in drawn.galleries():
        for triplet, kind in zip(triplets, kinds, strict=True):
            before = attributes[triplet["candidate"]]
            after = attributes[triplet["target"]]
            changed = kind.split("+")
            seen |= set(changed)
            for name in changed:
                assert before.get(name) != after[name]
            for name in {"garment", "colour", "pattern"} - set(changed):
                assert before[name] == after[name]
            if "garment" not in changed:
                assert {n for n in after if before[n] != after[n]} == set(changed)
    assert seen == {"colour", "garment", "pattern", "sleeve", "length"}


def test_captions_state_every_changed_value(drawn: DrawnSet) -> None:
    for _, _, triplets, kinds in drawn.galleries():
        for triplet, kind in zip(triplets, kinds, strict=True):
            after = drawn.attributes[triplet["target"]]
            for name in kind.split("+"):
                stated = [states(text, name, after[name]) for text in triplet["captions"]]
                assert any(stated), (triplet["captions"], name, after[name])


def test_no_caption_names_a_colour_of_neither_image(drawn: DrawnSet) -> None:
    colours = {"black", "blue", "brown", "green", "grey", "orange", "pink", "purple", "red"}
    colours |= {"white", "yellow"}
    for _, _, triplets, _ in drawn.galleries():
        for triplet in triplets:
            text = " ".join(triplet["captions"]).replace("gray", "grey")
            colours_in_text = colours & set(re.findall(r"[a-z]+", text))
            real = {drawn.attributes[triplet[key]]["colour"] for key in ("target", "candidate")}
            assert colours_in_text <= real


def test_relative_words_are_true() -> None:
    base = {"garment": "dress", "colour": "red", "pattern": "plain", "sleeve": "short"}
    pairs = [
        ({**base, "length": "knee"}, {**base, "length": "long"}, "length", "longer", "shorter"),
        ({**base, "length": "knee"}, {**base, "length": "short"}, "length", "shorter", "longer"),
        (base, {**base, "sleeve": "long"}, "sleeve", "longer", "shorter"),
        (base, {**base, "sleeve": "none"}, "sleeve", "shorter", "longer"),
        ({**base, "colour": "orange"}, {**base, "colour": "black"}, "colour", "darker", "lighter"),
        (base, {**base, "colour": "white"}, "colour", "lighter", "darker"),
    ]
    for reference, target, name, right, wrong in pairs:
        rng = np.random.default_rng(0)
        drawn_pairs = [captions(reference, target, [name], rng) for _ in range(150)]
        text = " ".join(one for pair in drawn_pairs for one in pair)
        assert right in text
        assert wrong not in text


def test_black_and_navy_are_neither_darker_nor_lighter() -> None:
    black = {"garment": "belt", "colour": "black", "pattern": "plain"}
    blue = {**black, "colour": "blue"}
    rng = np.random.default_rng(0)
    for pair in ((black, blue), (blue, black)):
        text = " ".join(" ".join(captions(*pair, ["colour"], rng)) for _ in range(150))
        assert "darker" not in text
        assert "lighter" not in text


@pytest.mark.parametrize(
    ("garment", "adjectives", "expected"),
    [
        ("shorts", "red", {"a pair of red shorts"}),
        ("belt", "orange", {"an orange belt"}),
        ("belt", "", {"a belt"}),
        ("t-shirt", "striped", {"a striped t-shirt", "a striped tee"}),
    ],
)
def test_nouns_have_their_article(garment: str, adjectives: str, expected: set[str]) -> None:
    rng = np.random.default_rng(0)
    assert {noun(garment, rng, adjectives) for _ in range(40)} == expected


def test_a_clause_of_each_attribute_states_its_value() -> None:
    target = {
        "garment": "dress",
        "colour": "grey",
        "pattern": "floral",
        "sleeve": "none",
        "length": "knee",
    }
    rng = np.random.default_rng(1)
    for name, value in target.items():
        for _ in range(20):
            assert states(clause(name, target, rng), name, value)


def test_a_full_caption_states_all_changes() -> None:
    reference = {"garment": "skirt", "colour": "red", "pattern": "plain", "length": "short"}
    target = {
        "garment": "dress",
        "colour": "blue",
        "pattern": "striped",
        "sleeve": "long",
        "length": "knee",
    }
    changed = changed_attributes(reference, target)
    assert changed == ("colour", "garment", "pattern", "sleeve", "length")
    text = full_caption(reference, target, changed, np.random.default_rng(0))
    assert text == "is a knee length striped blue dress with long sleeves"


def test_what_a_kind_fixes_goes_without_saying() -> None:
    shirt = {"garment": "t-shirt", "colour": "red", "pattern": "plain", "sleeve": "short"}
    tank = {**shirt, "garment": "tank top", "sleeve": "none"}
    dress = {**tank, "garment": "dress", "length": "knee"}
    assert changed_attributes(shirt, tank) == ("garment",)
    assert changed_attributes(shirt, dress) == ("garment", "sleeve", "length")
    assert changed_attributes(shirt, shirt) == ()


def test_positives_are_counted_within_the_gallery() -> None:
    red = {"garment": "belt", "colour": "red", "pattern": "plain"}
    blue = {**red, "colour": "blue"}
    attributes = {"a": red, "b": red, "c": blue, "elsewhere": red}
    ids = ["a", "b", "c"]
    triplets = make_triplets(ids, attributes, np.random.default_rng(0), each=1)
    pairs = {(t.target, t.reference) for t in triplets}
    assert {target for target, _ in pairs} == {"a", "b", "c"}
    assert {reference for target, reference in pairs if target != "c"} == {"c"}
    assert all(t.changed == ("colour",) for t in triplets)
    # a and b have two positives each, c has one.
    assert mean_positives(triplets, ids, attributes) == pytest.approx(5 / 3)
    assert mean_positives([], ids, attributes) == 0.0


def test_images_that_are_all_alike_give_no_triplet() -> None:
    same = {"garment": "belt", "colour": "red", "pattern": "plain"}
    attributes = {"a": same, "b": same}
    assert make_triplets(["a", "b"], attributes, np.random.default_rng(0), each=2) == []
