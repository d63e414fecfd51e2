from __future__ import annotations

import pytest

from cir_plugins.audits.wording import counts, length_of, negates


@pytest.mark.parametrize(
    "text",
    [
        *("has no sleeves", "is NOT red", "isn't red", "isn’t red", "without a belt"),
        *("remove the dog", "neither red nor blue", "lacks a collar"),
    ],
)
def test_negation_is_found(text: str) -> None:
    assert negates(text)


@pytest.mark.parametrize("text", ["a knot of notes", "sleeveless", "is normal", "nose", "cant"])
def test_negation_is_not_found_in_other_words(text: str) -> None:
    assert not negates(text)


@pytest.mark.parametrize(
    "text",
    [
        "two dogs",
        "3 dogs",
        "shows  only one cat",
        "Another dog",
        "a couple of cats",
        "there are 12",
    ],
)
def test_counting_is_found(text: str) -> None:
    assert counts(text)


@pytest.mark.parametrize(
    "text",
    ["3/4 sleeves", "from the 70s", "one is red", "size 2.5", "a V2 neck", "1980", "often", "7-up"],
)
def test_counting_is_not_found_in_other_words(text: str) -> None:
    assert not counts(text)


def test_length_counts_the_words_of_all_captions() -> None:
    assert length_of(("is red", "and long now")) == "1 to 5 words"
    assert length_of(("is red", "and a long now")) == "6 to 10 words"
    assert length_of(("",)) == "1 to 5 words"
    assert length_of(("a " * 21,)) == "21 or more words"
