"""Vocabularies of training texts, and texts as word ids, for text encoders with learned words."""

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
    """Lower-case words, with punctuation and contractions as separate words (CoSMo's, VAL's).

    Differs: the official code uses NLTK's ``word_tokenize``. These are its rules for captions,
    without its sentence splitter, its treatment of quotation marks and its rare contractions
    ("gonna").
    """
    text = text.lower()
    for pattern, replacement in _SEPARATE:
        text = pattern.sub(replacement, text)
    return text.split()


def learn_words(texts: Sequence[str], rule: Rule | None = None) -> tuple[str, ...]:
    """The distinct words of texts, in the order of their ids.

    Args:
        texts: Training texts.
        rule: Method of the vocabulary: ``tirg`` is sorted by code point, ``cosmo`` and ``val`` by
            first appearance. None: the words of all rules together, sorted, for any of them; an
            official checkpoint needs the vocabulary of its own rule and texts.

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
    """Words (and punctuation) that occur once in the training texts, sorted.

    Source: the official repository of VAL, which removes them from its vocabulary for its test.
    """
    counts = Counter(word for text in texts for word in treebank_words(text))
    return tuple(sorted(word for word, count in counts.items() if count == 1))


class Words(NamedTuple):
    """Words of a text encoder with learned words.

    Attributes:
        vocabulary: Without special ids, in the order of the ids.
        once: Words of it that ``val`` reads as unknown outside training.
    """

    vocabulary: tuple[str, ...]
    once: tuple[str, ...] = ()


class WordIds:
    """A tokenizer of texts to the ids of their words.

    Args:
        words: The vocabulary without special ids, in the order of the ids, distinct, not empty.
        rule: ``tirg``: punctuation is dropped. ``cosmo``: a begin id before and an end id
            after each text. ``val``: punctuation counts as words.

    Differs: an empty text is read as one unknown word under ``tirg`` and ``val``. The official TIRG
    fails on it, or reads as many unknown words as the longest text of the batch has.
    """

    def __init__(self, words: Sequence[str], rule: Rule) -> None:
        if not words:
            raise ValueError(
                "backbone.vocabulary is empty; accepted: the words of the training texts, which "
                "training fills in by itself"
            )
        self.rule = rule
        self.index = {word: SPECIALS[rule] + number for number, word in enumerate(words)}
        if len(self.index) != len(words):
            raise ValueError("backbone.vocabulary holds a word twice")

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
    """Start vectors (1 + words, width) from a GloVe text file; the first is that of unknown words.

    Args:
        path: One line per word: the word and its numbers, separated by blanks.
        words: The vocabulary.
        width: Numbers per word.
        seed: Of the random vectors of missing words.

    Raises:
        CIRError: If the file cannot be read or holds vectors of another width.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(1 + len(words), width, generator=generator) * _GLOVE_SPREAD
    index = {word: number for number, word in enumerate(words, start=1)}
    if not path.is_file():
        raise CIRError(f"word vectors {path} are no file")
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                word, *values = line.rstrip().split(" ")
                if word in index:
                    vectors[index[word]] = torch.tensor([float(value) for value in values])
    except (OSError, UnicodeDecodeError) as error:
        raise CIRError(f"word vectors {path} cannot be read: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise CIRError(
            f"word vectors {path}: the line of '{word}' is not a word and {width} numbers"
        ) from error
    return vectors
