"""Frozen records with typed and bounded fields, and what does not fit in our words.

pydantic checks; its list of errors becomes messages that name the key, what was there and what is
accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cir_plugins.errors import CIRError, shown, unknown_name
from cir_plugins.plugins.options import Option, accepted_by, tuples

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen record: strict types, no unknown keys; lists become tuples, integers floats."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: tuples(value) for key, value in values.items()}

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The fields as options: type, bounds, default and description."""
        return {name: _option(name, field) for name, field in cls.model_fields.items()}


class StoredRecord(Record):
    """What is read back of a structure in a file of ours: the fields that are used.

    Others are left alone, and a number may be NaN: whoever wrote it has checked what it wrote.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)


def _option(name: str, field: FieldInfo) -> Option:
    return Option(
        name,
        field.annotation,
        None if field.is_required() else field.get_default(call_default_factory=True),
        " ".join((field.description or "").split()),
        tuple(field.metadata),
    )


def read_record(kind: type[R], values: object, where: str) -> R:
    """The record of a table's values.

    Args:
        kind: The record.
        values: The table, as a TOML file holds it.
        where: File and entry, for messages.

    Raises:
        CIRError: If it is no table, a key is unknown or missing, or a value does not fit; one
            message for each.
    """
    if not isinstance(values, Mapping):
        raise CIRError(f"{where} holds {shown(values, 60)}\naccepted: a table")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise CIRError("\n".join(_problems(kind, error, values, where))) from error


def _problems(
    kind: type[Record], error: ValidationError, values: Mapping[str, Any], where: str
) -> Iterator[str]:
    errors = error.errors(include_url=False)
    # An unknown key first: it is often the misspelt one that is missing.
    for detail in sorted(errors, key=lambda detail: detail["type"] == "missing"):
        cursor = _Cursor(kind, values)
        for step in detail["loc"]:
            if not cursor.enter(step):
                break
        yield cursor.problem(detail, where)


class _Cursor:
    """A position in a table of values: the value there, and what its type accepts.

    It goes into records, tables and lists of records, not into lists of plain values.
    """

    def __init__(self, kind: type[Record], values: Mapping[str, Any]) -> None:
        self.annotation: Any = kind
        self.bounds: tuple[Any, ...] = ()
        self.value: Any = values
        self.path = ""
        self.key: Any = None  # type of the keys of the table around it

    def enter(self, step: str | int) -> bool:
        """Whether there was a further value of that name or number to go to."""
        arguments = get_args(self.annotation)
        if _is_record(self.annotation):
            option = self.annotation.options().get(step)
            if option is None:
                return False
            self.annotation, self.bounds = _without_none(option.annotation), option.bounds
        elif step == "[key]":
            self.annotation, self.bounds, self.value = self.key, (), None
            return False
        elif get_origin(self.annotation) is dict:
            (self.key, self.annotation), self.bounds = arguments, ()
        elif get_origin(self.annotation) is tuple and _is_record(arguments[0]):
            self.annotation, self.bounds = arguments[0], ()
        else:
            return False
        with suppress(KeyError, IndexError, TypeError):  # not there, or of another type
            self.value = self.value[step]
        dot = "." if self.path else ""
        self.path += f"[{step}]" if isinstance(step, int) else f"{dot}{step}"
        return True

    def problem(self, detail: ErrorDetails, where: str) -> str:
        """The message for an error at this position."""
        accepted = accepted_by(self.annotation, self.bounds)
        if detail["type"] == "missing":
            return f"{where} lacks: {self.path}; accepted: {accepted}"
        if _is_record(self.annotation) and detail["type"] != "model_type":
            owner = f"'{self.path}' of {where}" if self.path else where
            if detail["type"] == "extra_forbidden":
                key = str(detail["loc"][-1])
                return str(unknown_name(f"key in {owner}", key, self.annotation.model_fields))
            return f"{owner} {detail['msg'].removeprefix('Value error, ')}"
        if detail["loc"][-1] == "[key]":
            return f"'{self.path}' of {where} cannot be a key; accepted: {accepted}"
        return f"'{self.path}' of {where} cannot be {shown(self.value)}; accepted: {accepted}"


def _without_none(annotation: Any) -> Any:
    """A record's type where a record or None is accepted; any other type as it is."""
    records = [argument for argument in get_args(annotation) if _is_record(argument)]
    whole = len(records) == 1 and {*get_args(annotation)} == {records[0], type(None)}
    return records[0] if whole else annotation


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Record)


def first_errors(error: ValidationError) -> Iterable[tuple[str, ErrorDetails]]:
    """Each key with the first error in its value; "" for an error of the whole record."""
    errors: dict[str, ErrorDetails] = {}
    for detail in error.errors(include_url=False):
        errors.setdefault(str(detail["loc"][0]) if detail["loc"] else "", detail)
    return errors.items()
