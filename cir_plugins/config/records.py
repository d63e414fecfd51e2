"""Frozen records with typed and bounded fields, and what does not fit in our words.

pydantic checks; its list of errors becomes messages that name the key, what was found and what is
accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cir_plugins.errors import CIRError, unknown_name
from cir_plugins.plugins.options import Option, tuples

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
        return {name: _option(name, found) for name, found in cls.model_fields.items()}


def _option(name: str, found: FieldInfo) -> Option:
    return Option(
        name,
        found.annotation,
        None if found.is_required() else found.get_default(call_default_factory=True),
        " ".join((found.description or "").split()),
        tuple(found.metadata),
    )


def read_record(kind: type[R], values: Mapping[str, Any], where: str) -> R:
    """The record of a table's values.

    Args:
        kind: The record.
        values: The table, as a TOML file holds it.
        where: File and entry, for messages.

    Raises:
        CIRError: If a key is unknown or missing, or a value does not fit; one message for each.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise CIRError("\n".join(_problems(kind, error, values, where))) from error


def _problems(
    kind: type[Record], error: ValidationError, values: Mapping[str, Any], where: str
) -> Iterator[str]:
    options = kind.options()
    for key, found in first_errors(error):
        if found["type"] == "extra_forbidden":
            yield str(unknown_name(f"key in {where}", key, options))
        elif found["type"] == "missing":
            yield f"{where} lacks '{key}'; accepted: {options[key].accepted}"
        elif key:
            shown = shown_value(values.get(key))
            yield f"'{key}' of {where} cannot be {shown}; accepted: {options[key].accepted}"
        else:
            yield f"{where}: {found['msg'].removeprefix('Value error, ')}"


def first_errors(error: ValidationError) -> Iterable[tuple[str, ErrorDetails]]:
    """Each key with the first error found in its value; "" for an error of the whole record."""
    errors: dict[str, ErrorDetails] = {}
    for found in error.errors(include_url=False):
        errors.setdefault(str(found["loc"][0]) if found["loc"] else "", found)
    return errors.items()


def shown_value(value: Any) -> str:
    """A value as messages show it: tuples as the lists that a file holds."""
    return repr(list(value) if isinstance(value, tuple) else value)
