"""Values that readers of files stumble over, and damage to JSON-like trees and bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

STRINGS = (
    *("", " ", ".", "..", "../../out", "/", "/etc/passwd", "./x", "a/b", "a\\b", "CON"),
    *("a\x00b", "\n", "\r\n", "\t", "\x1b[31m", "{}", "{0}", "{x!r}", "%s", "%(a)s", "$x_y^", "~"),
    *("\ud800", "\udcff.png", "é", "\u0301", "\u202e", "²", "٣", "０", "🐕", "I\u0307"),
    *("[bold]", "[/]", "[link=x]", "<script>", "&amp;", "nan", "NaN", "null", "True", "1", "-1"),
    *("x" * 300, "x" * 5000, "is red " * 2000, "dress", "rc2", "val", "train", "test", "__class__"),
)
NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
)
PLAIN = (None, True, False, [], {}, [[]], [{}], {"": 0}, [None], ["a", "a"], {"a": {"b": []}})

strange_values = st.one_of(
    st.sampled_from(STRINGS),
    st.sampled_from(NUMBERS),
    st.sampled_from(PLAIN).map(copy.deepcopy),
    st.text(max_size=8),
    st.lists(st.sampled_from((*STRINGS, *NUMBERS)), max_size=3),
)


@dataclass(frozen=True)
class TreeDamage:
    """A change of one place in a tree of dictionaries and lists.

    Attributes:
        place: Numbers that choose the way down; each counts modulo what there is.
        kind: What happens there.
        value: What is put there, where something is.
    """

    place: tuple[int, ...]
    kind: str
    value: Any

    def of(self, tree: Any) -> Any:
        """The changed tree; the tree itself stays."""
        holder: list[Any] = [copy.deepcopy(tree)]
        owner: Any = holder
        key: Any = 0
        for number in self.place:
            below = owner[key]
            if isinstance(below, dict) and below:
                owner, key = below, list(below)[number % len(below)]
            elif isinstance(below, list) and below:
                owner, key = below, number % len(below)
            else:
                break
        _CHANGES[self.kind](owner, key, copy.deepcopy(self.value))
        return holder[0] if holder else None


def _replace(owner: Any, key: Any, value: Any) -> None:
    owner[key] = value


def _remove(owner: Any, key: Any, value: Any) -> None:
    del owner[key]


def _repeat(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, list):
        owner.append(copy.deepcopy(owner[key]))
    else:
        owner[str(value)[:40]] = copy.deepcopy(owner[key])


def _wrap(owner: Any, key: Any, value: Any) -> None:
    owner[key] = [owner[key]]


def _unwrap(owner: Any, key: Any, value: Any) -> None:
    inner = owner[key]
    if isinstance(inner, list) and inner:
        owner[key] = inner[0]
    elif isinstance(inner, dict) and inner:
        owner[key] = next(iter(inner.values()))


def _swap(owner: Any, key: Any, value: Any) -> None:
    keys = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
    other = keys[-1]
    owner[key], owner[other] = owner[other], owner[key]


def _as_text(owner: Any, key: Any, value: Any) -> None:
    owner[key] = str(owner[key])


def _negative(owner: Any, key: Any, value: Any) -> None:
    number = owner[key]
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        owner[key] = -number - 1


def _extra(owner: Any, key: Any, value: Any) -> None:
    inner = owner[key]
    if isinstance(inner, dict):
        inner["extra"] = value
    elif isinstance(inner, list):
        inner.insert(0, value)


_CHANGES: dict[str, Callable[[Any, Any, Any], None]] = {
    "replace": _replace,
    "remove": _remove,
    "repeat": _repeat,
    "wrap": _wrap,
    "unwrap": _unwrap,
    "swap": _swap,
    "as_text": _as_text,
    "negative": _negative,
    "extra": _extra,
}

tree_damages = st.builds(
    TreeDamage,
    st.lists(st.integers(0, 11), max_size=5).map(tuple),
    st.sampled_from(["replace", "replace", "replace", *_CHANGES]),
    strange_values,
)


@dataclass(frozen=True)
class ByteDamage:
    """A change of a file's bytes.

    Attributes:
        kind: What happens.
        share: Where, from 0 for the start to 1 for the end.
        bit: Which bit, where one is turned.
    """

    kind: str
    share: float
    bit: int

    def of(self, content: bytes) -> bytes:
        """The changed bytes."""
        place = int(self.share * max(0, len(content) - 1))
        return _BYTES[self.kind](content, place, self.bit)


def _flip(content: bytes, place: int, bit: int) -> bytes:
    if not content:
        return b"\x00"
    turned = bytes([content[place] ^ (1 << bit)])
    return content[:place] + turned + content[place + 1 :]


def _many_digits(content: bytes, place: int, bit: int) -> bytes:
    digits = [number for number, byte in enumerate(content) if byte in b"0123456789"]
    start = digits[place % len(digits)] if digits else place
    return content[:start] + b"1" * 5000 + content[start:]


_BYTES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip": _flip,
    "cut": lambda content, place, bit: content[:place],
    "lose": lambda content, place, bit: content[:place] + content[place + 1 + bit :],
    "zeros": lambda content, place, bit: (
        content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
    ),
    "double": lambda content, place, bit: content + content,
    "more": lambda content, place, bit: content + b"\x00more"[bit % 5 :],
    "empty": lambda content, place, bit: b"",
    "mark": lambda content, place, bit: b"\xef\xbb\xbf" + content,
    "latin": lambda content, place, bit: content[:place] + b"\xe9\xff" + content[place:],
    "deep": lambda content, place, bit: b"[" * 100_000,
    "deep_table": lambda content, place, bit: b'{"a":' * 100_000,
    "digits": _many_digits,
}

byte_damages = st.builds(
    ByteDamage,
    st.sampled_from(["flip", "flip", "flip", "cut", "zeros", *_BYTES]),
    st.floats(0, 1),
    st.integers(0, 7),
)
binary_damages = st.builds(
    ByteDamage,
    st.sampled_from(["flip", "flip", "flip", "cut", "zeros", "lose", "double", "more", "empty"]),
    st.floats(0, 1),
    st.integers(0, 7),
)


def is_half(character: str) -> bool:
    """Whether it is half of a character: a lone surrogate."""
    return "\ud800" <= character <= "\udfff"


def as_json(value: Any) -> bytes:
    """A tree as JSON, with whatever numbers and half characters it has."""
    try:
        return json.dumps(value).encode()
    except ValueError:  # a whole number with too many digits to print
        return b"1" * 5000
