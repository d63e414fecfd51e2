"""What a query's text says: negation, counting, and how long it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

NEGATION = (
    *("no", "not", "cannot", "without", "never", "none", "nothing", "nobody", "neither", "nor"),
    *("lacks", "lacking", "remove", "removes", "removed", "removing", "except"),
)
"""Words that negate, beside those that end in ``n't``."""
COUNTING = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("dozen", "several", "another", "fewer", "single", "number of", "couple of", "only one"),
    *("just one", "one more", "at least one", "exactly one"),
)
"""Words that count, beside numbers in digits that are part of no fraction, code or decade."""

_NEGATION = re.compile(rf"\b(?:{'|'.join(NEGATION)})\b|n['’]t\b", re.IGNORECASE)
_WORDS = "|".join(each.replace(" ", r"\s+") for each in COUNTING)
_COUNTING = re.compile(
    rf"\b(?:{_WORDS})\b|(?<![\w/.,'’-])\d{{1,3}}(?![\w/'’-]|[.,]\d)", re.IGNORECASE
)
_LENGTHS = ((1, 5), (6, 10), (11, 20), (21, 10_000))


def negates(text: str) -> bool:
    """Whether a text has a word of ``NEGATION`` or ends a word in ``n't``."""
    return _NEGATION.search(text) is not None


def counts(text: str) -> bool:
    """Whether a text has a word of ``COUNTING`` or a number in digits that stands alone."""
    return _COUNTING.search(text) is not None


def length_of(captions: Sequence[str]) -> str:
    """The slice of a query by the words of all its captions, such as ``6 to 10 words``."""
    words = max(1, sum(len(caption.split()) for caption in captions))
    low, high = next(bounds for bounds in _LENGTHS if bounds[0] <= words <= bounds[1])
    return f"{low} or more words" if high == _LENGTHS[-1][1] else f"{low} to {high} words"
