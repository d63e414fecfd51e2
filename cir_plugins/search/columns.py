"""Metadata as columns: typed, stored as tensors, compared with a value all rows at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cir_plugins.errors import CIRError, shown
from cir_plugins.search.query import RESERVED, Field, Value

Kind = Literal["text", "number", "flag"]
Mask: TypeAlias = NDArray[np.bool_]
MOST_VALUES = 100  # distinct values that a field lists
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Strings:
    """A list of strings as two tensors, of which only what is asked for is decoded.

    Args:
        text: (bytes,) uint8, the UTF-8 of all, one after another.
        ends: (n,) int64, where each of them ends.
    """

    def __init__(self, text: Tensor, ends: Tensor) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, values: Sequence[str]) -> Strings:
        """The strings of a list."""
        parts = [value.encode("utf-8", "surrogatepass") for value in values]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        text = np.frombuffer(bytearray(b"".join(parts)), dtype=np.uint8)
        return cls(torch.from_numpy(text), torch.from_numpy(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        first = int(self.ends[index - 1]) if index else 0
        part = self.text[first : int(self.ends[index])].numpy().tobytes()
        return part.decode("utf-8", "surrogatepass")

    def all(self) -> list[str]:
        """All of them."""
        whole, first, values = self.text.numpy().tobytes(), 0, []
        for end in self.ends.tolist():
            values.append(whole[first:end].decode("utf-8", "surrogatepass"))
            first = end
        return values


@dataclass(frozen=True)
class Column:
    """A field of the metadata of all pictures.

    Attributes:
        name: Its name.
        kind: What it holds.
        whole: Whether all its numbers are whole.
        values: (N,): numbers as float64, NaN for none; flags as int8, -1 for none; texts as int32
            index of ``words``, -1 for none.
        words: Distinct texts, ascending; empty for other kinds.
    """

    name: str
    kind: Kind
    whole: bool
    values: Tensor
    words: tuple[str, ...] = ()

    @cached_property
    def array(self) -> NDArray[Any]:
        """The values as an array."""
        array: NDArray[Any] = self.values.numpy()
        return array

    def __getitem__(self, row: int) -> Value:
        value = self.array[row]
        if self.kind == "number":
            return None if np.isnan(value) else int(value) if self.whole else float(value)
        if value < 0:
            return None
        return self.words[value] if self.kind == "text" else bool(value)

    @property
    def present(self) -> Mask:
        """(N,) bool: whether a picture has a value."""
        mask: Mask = ~np.isnan(self.array) if self.kind == "number" else self.array >= 0
        return mask

    def compared(self, sign: str, value: Value) -> Mask:
        """(N,) bool: whether ``column SIGN value`` holds; never where there is no value.

        Texts compare by their code points, so that dates like 2024-05-01 do as dates.

        Raises:
            CIRError: If the value is of another kind, or the sign makes no sense for it.
        """
        self.check(value)
        if self.kind == "flag" and sign not in ("==", "!="):
            raise CIRError(
                f"'{self.name} {sign} ...' makes no sense: it is true or false\naccepted: == and !="
            )
        compare = COMPARISONS[sign]
        if self.kind != "text":
            result: Mask = compare(self.array, value) & self.present
            return result
        fits = np.array([compare(word, value) for word in self.words] + [False], dtype=bool)
        found: Mask = fits[self.array]  # -1 is the last one: no value
        return found

    def check(self, value: Value) -> None:
        """Check that a value is of this column's kind.

        Raises:
            CIRError: If it is not.
        """
        kinds: Mapping[Kind, Any] = {"text": str, "number": int | float, "flag": bool}
        fits = isinstance(value, kinds[self.kind])
        if not fits or (self.kind == "number" and isinstance(value, bool)):
            words = {"text": "a text in quotes", "number": "a number", "flag": "true or false"}
            raise CIRError(
                f"'{self.name}' cannot be compared with {shown(value)}\n"
                f"accepted: {words[self.kind]}"
            )

    def field(self) -> Field:
        """What stands in it."""
        present = self.array[self.present]
        if self.kind == "text":
            few = self.words if len(self.words) <= MOST_VALUES else ()
            return Field(self.name, "text", few)
        distinct = np.unique(present)
        kind: Any = bool if self.kind == "flag" else int if self.whole else float
        values = tuple(kind(each) for each in distinct[: MOST_VALUES + 1])
        values = values if len(values) <= MOST_VALUES else ()
        if self.kind == "flag" or not len(distinct):
            return Field(self.name, self.kind, values)
        return Field(self.name, "number", values, float(distinct[0]), float(distinct[-1]))


def make_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of rows, typed by their values; a field that no row has a value of is left out.

    Args:
        rows: One for each picture: field -> value; None, "" and NaN are no value.

    Raises:
        CIRError: If a field has a reserved name, or values of several kinds.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        check_name(name)
    columns = (_column(name, [_plain(row.get(name)) for row in rows]) for name in names)
    return tuple(column for column in columns if column is not None)


def check_name(name: object) -> None:
    """Check the name of a field.

    Raises:
        CIRError: If it is no text, empty, or the name of what every hit has.
    """
    if not isinstance(name, str) or not name.strip():
        raise CIRError(f"a field of the metadata cannot be called {name!r}; accepted: a text")
    if name in RESERVED:
        raise CIRError(
            f"the metadata has a field '{name}', which every hit has already\n"
            f"accepted: another name than {', '.join(RESERVED)}"
        )


def _plain(value: Any) -> Value:
    """A value as it is stored: Python's own types; None for none."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value == "" or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _column(name: str, values: list[Value]) -> Column | None:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return None
    if kinds == {bool}:
        flags = [-1 if value is None else int(value) for value in values]
        return Column(name, "flag", False, torch.tensor(flags, dtype=torch.int8))
    if kinds <= {int, float}:
        try:
            numbers = [float("nan") if value is None else float(value) for value in values]
        except OverflowError as error:
            raise CIRError(f"field '{name}' of the metadata has a number beyond 1e308") from error
        whole = all(
            value == int(value) and abs(value) <= 2**53 for value in numbers if _finite(value)
        )
        return Column(name, "number", whole, torch.tensor(numbers, dtype=torch.float64))
    texts = [None if value is None else str(value) for value in values]
    words = tuple(sorted({text for text in texts if text is not None}))
    number = {word: position for position, word in enumerate(words)}
    codes = [-1 if text is None else number[text] for text in texts]
    return Column(name, "text", False, torch.tensor(codes, dtype=torch.int32), words)


def _finite(value: float) -> bool:
    return value - value == 0
