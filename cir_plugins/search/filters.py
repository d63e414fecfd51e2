r"""The filter language: ``price < 50 and brand in ['x', 'y']``, the same for every backend.

A filter is a condition on the fields of the metadata: comparisons (``== != < <= > >=``), ``in`` and
``not in`` a list, a flag alone, ``and``, ``or``, ``not`` and parentheses. Texts stand in quotes,
with ``\`` before a quote or a ``\``; flags are ``true`` and ``false``; a field whose name is no
word stands in backticks. A comparison with a value that a picture does not have is false, so
``not price < 50`` holds for a picture without a price.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cir_plugins.errors import CIRError, shown, unknown_name
from cir_plugins.search.columns import COMPARISONS, Column, Mask
from cir_plugins.search.query import Value

LONGEST = 10_000  # characters
DEEPEST = 100  # parentheses and nots within one another
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w))
  | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<field>`[^`]+`)
  | (?P<word>[^\W\d]\w*)
  | (?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = ("and", "or", "not", "in", "true", "false")
_LEVELS = ("or", "and")


class _Token(NamedTuple):
    kind: str  # number, text, field, sign, word (of the language) or end
    text: str
    at: int


def allowed_rows(text: str, columns: Mapping[str, Column], count: int) -> Mask:
    """(N,) bool: the pictures that a filter admits.

    Args:
        text: The filter.
        columns: Columns of the metadata by name.
        count: N.

    Raises:
        CIRError: If it is no filter, a field is unknown, or a value is of another kind.
    """
    if not isinstance(text, str):
        raise CIRError(f"a filter cannot be {type(text).__name__}; accepted: a text")
    if len(text) > LONGEST:
        raise CIRError(f"the filter has {len(text):,} characters; accepted: at most {LONGEST:,}")
    return _Parser(text, columns, count).whole()


class _Parser:
    """Recursive descent over the tokens; each part becomes its mask at once."""

    def __init__(self, text: str, columns: Mapping[str, Column], count: int) -> None:
        self.text, self.columns, self.count = text, columns, count
        self.tokens = _tokens(text)
        self.position = 0
        self.depth = 0

    def whole(self) -> Mask:
        mask = self.joined(0)
        if self.next.kind != "end":
            raise self.unexpected("'and', 'or' or the end")
        return mask

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self, *texts: str) -> str:
        """The next token's text, if it is one of these of the language; "" otherwise."""
        token = self.next
        if token.kind in ("sign", "word") and token.text in texts:
            self.position += 1
            return token.text
        return ""

    def joined(self, level: int) -> Mask:
        """Conditions joined by ``or`` (level 0) or ``and`` (level 1)."""
        if level == len(_LEVELS):
            return self.negated()
        mask = self.joined(level + 1)
        while self.take(_LEVELS[level]):
            other = self.joined(level + 1)
            mask = mask & other if _LEVELS[level] == "and" else mask | other
        return mask

    def negated(self) -> Mask:
        self.depth += 1
        if self.depth > DEEPEST:
            raise CIRError(f"the filter is nested too deeply; accepted: {DEEPEST} levels at most")
        if self.take("not"):
            mask: Mask = ~self.negated()
        elif self.take("("):
            mask = self.joined(0)
            self.need(")")
        else:
            mask = self.comparison()
        self.depth -= 1
        return mask

    def comparison(self) -> Mask:
        column = self.column()
        sign = self.take(*COMPARISONS)
        if sign:
            return column.compared(sign, self.value())
        negative = bool(self.take("not"))
        if negative or self.next.text == "in":
            self.need("in")
            mask = self.among(column)
            return column.present & ~mask if negative else mask
        if column.kind == "flag":
            return column.compared("==", True)
        raise self.unexpected(f"{', '.join(COMPARISONS)}, 'in' or 'not in' after '{column.name}'")

    def among(self, column: Column) -> Mask:
        closing = "]" if self.take("[") else ")" if self.take("(") else ""
        if not closing:
            raise self.unexpected("a list such as ['x', 'y']")
        mask = np.zeros(self.count, dtype=bool)
        while True:
            mask |= column.compared("==", self.value())
            if not self.take(","):
                break
        self.need(closing)
        return mask

    def column(self) -> Column:
        token = self.next
        if token.kind != "field":
            raise self.unexpected("the name of a field")
        if token.text not in self.columns:
            raise unknown_name("field in the filter", token.text, self.columns)
        self.position += 1
        return self.columns[token.text]

    def value(self) -> Value:
        token = self.next
        flag = token.kind == "word" and token.text in ("true", "false")
        if token.kind not in ("number", "text") and not flag:
            raise self.unexpected("a number, a text in quotes, true or false")
        self.position += 1
        if token.kind == "number":
            return float(token.text)
        return token.text if token.kind == "text" else token.text == "true"

    def need(self, text: str) -> None:
        if not self.take(text):
            raise self.unexpected(f"'{text}'")

    def unexpected(self, accepted: str) -> CIRError:
        token = self.next
        found = "its end" if token.kind == "end" else shown(token.text, 60)
        return CIRError(
            f"filter {shown(self.text, 100)}, character {token.at + 1}: found {found}\n"
            f"accepted: {accepted}"
        )


def _tokens(text: str) -> Sequence[_Token]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise CIRError(
                f"filter {shown(text, 100)}, character {at + 1}: "
                f"{shown(text[at : at + 20], 60)} cannot be read\naccepted: fields, numbers, "
                "texts in quotes, == != < <= > >= in, and, or, not, parentheses"
            )
        kind, content = match.lastgroup, match[match.lastgroup]
        if kind == "word" and content.lower() not in _WORDS:
            kind = "field"
        elif kind == "word":
            content = content.lower()
        elif kind == "field":
            content = content[1:-1]
        elif kind == "text":
            content = re.sub(r"\\(.)", r"\1", content[1:-1], flags=re.DOTALL)
        tokens.append(_Token(kind, content, match.start(match.lastgroup)))
        at = match.end()
    return [*tokens, _Token("end", "", len(text))]
