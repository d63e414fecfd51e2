"""Rewrites of captions that keep their meaning, each a rule that can be read and tested.

A rule is a pattern over whole words and its replacement. It finds its words in any case, and keeps
a capital that the match began with. Source: our choice; the words are frequent ones of FashionIQ's,
CIRR's and CIRCO's captions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Rule:
    """A rewrite of words by others of the same meaning.

    Attributes:
        name: Its name in tables.
        says: What it does, for tables.
        pattern: Regular expression, case ignored, that finds the words.
        words: Matched text in lower case -> what stands there afterwards.
        example: A caption, and what the rule makes of it.
    """

    name: str
    says: str
    pattern: str
    words: Mapping[str, str]
    example: tuple[str, str]

    def __call__(self, caption: str) -> str:
        """The caption rewritten; the caption itself where nothing matches."""
        return re.sub(self.pattern, self._replaced, caption, flags=re.IGNORECASE)

    def _replaced(self, match: re.Match[str]) -> str:
        found = match.group()
        new = self.words[" ".join(found.lower().split())]
        return new[0].upper() + new[1:] if found[0].isupper() else new


def _swap(
    name: str,
    says: str,
    words: Mapping[str, str],
    example: tuple[str, str],
    *,
    unless_before: str = r"\b\B",
) -> Rule:
    """A rule for words that stand alone, hyphens and apostrophes counting as letters."""
    longest_first = sorted(words, key=len, reverse=True)
    choices = "|".join(r"\s+".join(map(re.escape, each.split())) for each in longest_first)
    behind = rf"(?![\w'’-]|[./,]\d|{unless_before})"
    pattern = rf"(?<![\w'’./,-])(?:{choices}){behind}"
    return Rule(name, says, pattern, MappingProxyType(dict(words)), example)


def _leading(name: str, says: str, words: Mapping[str, str], example: tuple[str, str]) -> Rule:
    """A rule for a caption's first word."""
    pattern = rf"(?<=\A)(?:{'|'.join(words)})(?![\w'’-])"
    return Rule(name, says, pattern, MappingProxyType(dict(words)), example)


def _both_ways(*pairs: tuple[str, str]) -> dict[str, str]:
    return {**dict(pairs), **{second: first for first, second in pairs}}


_NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()

RULES: tuple[Rule, ...] = (
    _leading(
        "subject",
        "a caption that begins with its verb gets a subject",
        {verb: f"it {verb}" for verb in ("is", "has", "shows", "looks")},
        ("is red and long", "it is red and long"),
    ),
    _swap(
        "contraction",
        "is not / isn't, and their like",
        {
            **_both_ways(
                *(("is not", "isn't"), ("are not", "aren't"), ("does not", "doesn't")),
                *(("do not", "don't"), ("has not", "hasn't"), ("there is", "there's")),
            ),
            **{"can't": "cannot", "cannot": "can't"},
        },
        ("The dog is not alone", "The dog isn't alone"),
    ),
    _swap(
        "without",
        "has no / has got no, with no / without",
        {
            **{"has no": "has got no", "have no": "have got no"},
            **{"with no": "without", "without any": "without"},
        },
        ("is long with no sleeves", "is long without sleeves"),
    ),
    _swap(
        "sleeveless",
        "is sleeveless / is without sleeves, is strapless / is without straps",
        _both_ways(("is sleeveless", "is without sleeves"), ("is strapless", "is without straps")),
        ("is sleeveless and black", "is without sleeves and black"),
        # Before a noun, as in "is sleeveless dress", the words would not fit.
        unless_before=r"\s+(?!(?:and|but|or|with|in)\b)\w",
    ),
    _swap(
        "spelling",
        "American / British spelling",
        _both_ways(
            *(("color", "colour"), ("colors", "colours"), ("colored", "coloured")),
            *(("colorful", "colourful"), ("gray", "grey"), ("center", "centre")),
        ),
        ("a gray, more colorful one", "a grey, more colourful one"),
    ),
    _swap(
        "picture",
        "picture / photo",
        {
            **{"picture": "photo", "pictures": "photos", "photo": "picture"},
            **{"photos": "pictures", "photograph": "photo", "photographs": "photos"},
        },
        ("same photo from above", "same picture from above"),
    ),
    _swap(
        "size",
        "bigger / larger",
        _both_ways(("bigger", "larger"), ("biggest", "largest")),
        ("has a bigger print", "has a larger print"),
    ),
    _swap(
        "instead",
        "instead of / rather than",
        _both_ways(("instead of", "rather than")),
        ("is red instead of blue", "is red rather than blue"),
    ),
    _swap(
        "numeral",
        "two / 2 up to twelve / 12",
        _both_ways(*((word, str(number)) for number, word in enumerate(_NUMBERS, start=2))),
        ("shows three dogs", "shows 3 dogs"),
    ),
    _swap(
        "kid",
        "kid / child",
        _both_ways(("kid", "child"), ("kids", "children")),
        ("Two kids at a table", "Two children at a table"),
    ),
    _swap(
        "begin",
        "I want / I would like",
        {"i want": "I would like"},
        ("I want it in blue", "I would like it in blue"),
    ),
    _swap(
        "also",
        "as well / too",
        {"as well": "too"},
        ("has a belt as well", "has a belt too"),
        unless_before=r"\s+as\b",
    ),
)
"""The rules, in the order in which they are applied together."""


RULES_AFTER_A_PREFIX = tuple(rule for rule in RULES if rule.name != "subject")
"""The rules for captions that follow a template's words."""


def paraphrased(caption: str, rules: Sequence[Rule] = RULES) -> tuple[str, tuple[str, ...]]:
    """The caption after all rules in turn, and the names of those that changed it."""
    names = []
    for rule in rules:
        changed = rule(caption)
        if changed != caption:
            names.append(rule.name)
        caption = changed
    return caption, tuple(names)
