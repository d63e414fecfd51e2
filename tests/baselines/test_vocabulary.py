from __future__ import annotations

from pathlib import Path

import pytest
import torch

from baselines_plugin.backbones.vocabulary import (
    WordIds,
    learn_words,
    plain_words,
    seen_once,
    treebank_words,
    word_vectors,
)
from cir_plugins import CIRError


def test_tirgs_words_are_plain_ascii() -> None:
    """TIRG's words have no punctuation and no letters beyond ASCII."""
    assert plain_words("Is  off-white, (très) long; it's 2.5") == [
        *("is", "offwhite", "trs", "long", "its", "25")
    ]
    assert plain_words("?!") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's red, not off-white.", ["it", "'s", "red", ",", "not", "off-white", "."]),
        ("doesn't have 2,500 dots", ["does", "n't", "have", "2,500", "dots"]),
        ("short (or long)? yes!", ["short", "(", "or", "long", ")", "?", "yes", "!"]),
        ("cannot... see", ["can", "not", "...", "see"]),
        ("women's and girls' size: 3", ["women", "'s", "and", "girls", "'", "size", ":", "3"]),
        ("red/blue at 5.5 v.s. it", ["red/blue", "at", "5.5", "v.s", ".", "it"]),
    ],
)
def test_words_with_punctuation_of_their_own(text: str, words: list[str]) -> None:
    assert treebank_words(text) == words


def test_vocabularies_have_their_official_order() -> None:
    texts = ["Zebra a b.", "a Cat"]
    assert learn_words(texts, "tirg") == ("a", "b", "cat", "zebra")
    assert learn_words(texts, "val") == ("zebra", "a", "b", ".", "cat")
    assert learn_words(texts, "cosmo") == learn_words(texts, "val")
    assert learn_words(texts) == (".", "a", "b", "cat", "zebra")


def test_words_that_training_texts_hold_once() -> None:
    assert seen_once(["red, red dress.", "a Dress, longer", "longer"]) == (".", "a")


def test_ids_by_rule() -> None:
    words = ("red", "long")
    tirg, cosmo, val = (WordIds(words, rule) for rule in ("tirg", "cosmo", "val"))
    assert (len(tirg), len(cosmo), len(val)) == (3, 6, 3)
    assert tirg.ids("Red, and LONG") == [1, 0, 2]
    assert cosmo.ids("red, long") == [2, 4, 1, 5, 3]
    assert val.ids("red, long") == [1, 0, 2]


def test_padding_and_empty_texts() -> None:
    """Texts are padded to the longest; an empty one is one unknown word."""
    tokens = WordIds(("red", "long"), "tirg")(["long red", "", "red"])
    assert tokens["ids"].tolist() == [[2, 1], [0, 0], [1, 0]]
    assert tokens["lengths"].tolist() == [2, 1, 1]
    tokens = WordIds(("red",), "cosmo")(["", "red"])
    assert tokens["ids"].tolist() == [[2, 3, 0], [2, 4, 3]]
    assert tokens["lengths"].tolist() == [2, 3]


def test_vocabularies_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"backbone\.vocabulary is empty; accepted: the words"):
        WordIds((), "tirg")
    with pytest.raises(ValueError, match="holds a word twice"):
        WordIds(("a", "a"), "val")


def test_word_vectors_of_file_and_seed(tmp_path: Path) -> None:
    """Words have the vectors of the file; missing ones are drawn by the seed."""
    file = tmp_path / "vectors.txt"
    file.write_text("red 1 2\nblue 3 4\n")
    rows = word_vectors(file, ("long", "red"), 2, seed=0)
    assert rows.shape == (3, 2)
    assert rows[2].tolist() == [1.0, 2.0]
    assert rows[:2].abs().max().item() < 1
    assert torch.equal(rows, word_vectors(file, ("long", "red"), 2, seed=0))
    assert not torch.equal(rows[:2], word_vectors(file, ("long", "red"), 2, seed=1)[:2])
    many = word_vectors(file, tuple(f"w{index}" for index in range(4000)), 2, seed=0)
    assert many.std().item() == pytest.approx(0.09, rel=0.05)
    with pytest.raises(CIRError, match="the line of 'red' is not a word and 3 numbers"):
        word_vectors(file, ("red",), 3, seed=0)
    with pytest.raises(CIRError, match=r"word vectors .*none\.txt are no file"):
        word_vectors(tmp_path / "none.txt", ("red",), 2, seed=0)
