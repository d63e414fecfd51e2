"""Words of the training texts, and texts as their ids, for text encoders that learn their words."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cir_plugins import CIRError, Tokens

Rule = Literal["tirg", "cosmo", "val"]

# Ids before the first word: tirg and val: unknown (also the padding); cosmo: padding, unknown,
# begin, end.
SPECIALS: Mapping[Rule, int] = MappingProxyType({"tirg": 1, "cosmo": 4, "val": 1})
_UNKNOWN, _BEGIN, _END = 1, 2, 3  # of cosmo
_GLOVE_SPREAD = 0.09  # deviation with which VAL draws vectors of words that GloVe lacks
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SEPARATE = (
    (re.compile(r'([;@#$%&?!()\[\]{}<>"]|\.\.\.|--)'), r" \1 "),
    (re.compile(r"([:,])(?!\d)"), r" \1 "),
    (re.compile(r"(?<=[^.\s])\.(?=\s|$)"), " ."),
    (re.compile(r"n't\b"), " n't"),
    (re.compile(r"'(s|m|d|ll|re|ve)\b"), r" '\1"),
    (re.compile(r"(?<=\w)'(?=\s|$)"), " '"),
    (re.compile(r"\bcannot\b"), "can not"),
)


def plain_words(text: str) -> list[str]:
    """Lower-case words without punctuation and without characters beyond ASCII (TIRG's)."""
    ascii_only = text.encode("ascii", errors="ignore").decode()
    return ascii_only.lower().translate(_NO_PUNCTUATION).split()


def treebank_words(text: str) -> list[str]:
    """Lower-case words, with punctuation and contractions as words of their own (CoSMo's, VAL's).

    Differs: the official code asks NLTK's ``word_tokenize``; these rules are its rules for
    captions, without its sentence splitter, its treatment of quotation marks and its rare
    contractions ("gonna").
    """
    text = text.lower()
    for pattern, replacement in _SEPARATE:
        text = pattern.sub(replacement, text)
    return text.split()


def learn_words(texts: Sequence[str], rule: Rule | None = None) -> tuple[str, ...]:
    """The distinct words of texts, in the order in which their ids count.

    Args:
        texts: Training texts.
        rule: Whose vocabulary: ``tirg`` is sorted by code point, ``cosmo`` and ``val`` go by first
            appearance. None: the words of all rules together, sorted, which serve any of them;
            an official checkpoint wants the vocabulary of its own rule and texts.

    Source: the official repositories of TIRG, CoSMo and VAL.
    """
    plain = {word: None for text in texts for word in plain_words(text)}
    if rule == "tirg":
        return tuple(sorted(plain))
    treebank = {word: None for text in texts for word in treebank_words(text)}
    if rule is not None:
        return tuple(treebank)
    return tuple(sorted({**plain, **treebank}))


def seen_once(texts: Sequence[str]) -> tuple[str, ...]:
    """The words, with punctuation among them, that training texts hold once in all, sorted.

    Source: the official repository of VAL, which takes them out of its vocabulary for its test.
    """
    counted = Counter(word for text in texts for word in treebank_words(text))
    return tuple(sorted(word for word, times in counted.items() if times == 1))


class Words(NamedTuple):
    """Words of a text encoder that learns them.

    Attributes:
        known: The vocabulary without special ids, in the order of the ids.
        once: Those of them that ``val`` does not know outside training.
    """

    known: tuple[str, ...]
    once: tuple[str, ...] = ()


class WordIds:
    """Texts to the ids of their words.

    Args:
        words: The vocabulary without special ids, in the order of the ids, distinct, not empty.
        rule: ``tirg``: punctuation is dropped. ``cosmo``: texts stand between a begin and an end
            id. ``val``: punctuation counts as words.

    Differs: an empty text is read as one unknown word under ``tirg`` and ``val``. TIRG fails on
    it, or reads as many unknown words as the longest text of the batch has.
    """

    def __init__(self, words: Sequence[str], rule: Rule) -> None:
        if not words:
            raise ValueError(
                "the vocabulary is empty; accepted: the words of the training texts, which "
                "training fills in by itself"
            )
        self.rule = rule
        self.index = {word: SPECIALS[rule] + place for place, word in enumerate(words)}
        if len(self.index) != len(words):
            raise ValueError("the vocabulary holds a word twice")

    def __len__(self) -> int:
        """Number of ids, special ones included."""
        return len(self.index) + SPECIALS[self.rule]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """``ids`` (n, L), L the longest text, padded with 0, and ``lengths`` (n,), at least 1."""
        rows = [self.ids(text) for text in texts]
        padded = torch.zeros(len(rows), max(map(len, rows), default=1), dtype=torch.long)
        for row, ids in zip(padded, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return {"ids": padded, "lengths": torch.tensor([len(row) for row in rows])}

    def ids(self, text: str) -> list[int]:
        """Ids of one text, at least one."""
        if self.rule == "cosmo":
            inner = [self.index.get(word, _UNKNOWN) for word in treebank_words(text)]
            return [_BEGIN, *inner, _END]
        words = plain_words(text) if self.rule == "tirg" else treebank_words(text)
        return [self.index.get(word, 0) for word in words] or [0]


def word_vectors(path: Path, words: Sequence[str], width: int, seed: int) -> Tensor:
    """Start vectors (1 + words, width) from a GloVe text file; the first is that of no word.

    Args:
        path: One line per word: the word and its numbers, blanks between.
        words: The vocabulary.
        width: Numbers per word.
        seed: Of the vectors of words that the file lacks.

    Raises:
        CIRError: If the file cannot be read or holds vectors of another width.
    """
    chance = torch.Generator().manual_seed(seed)
    rows = torch.randn(1 + len(words), width, generator=chance) * _GLOVE_SPREAD
    place = {word: 1 + index for index, word in enumerate(words)}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                word, *values = line.rstrip().split(" ")
                if word in place:
                    rows[place[word]] = torch.tensor([float(value) for value in values])
    except (OSError, UnicodeDecodeError) as error:
        raise CIRError(f"word vectors {path} cannot be read: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise CIRError(
            f"word vectors {path}: the line of '{word}' is not a word and {width} numbers"
        ) from error
    return rows
