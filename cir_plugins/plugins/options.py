"""Options of a component, read from its factory's signature, and values checked against them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Any

from cir_plugins.errors import CIRError, shown, unknown_name


@dataclass(frozen=True)
class Accepted:
    """What a type accepts in words, as one of the ``Annotated`` extras of the type."""

    text: str


@dataclass(frozen=True)
class Option:
    """One option of a component.

    Attributes:
        name: Keyword of the factory.
        annotation: Its type.
        default: Its default value.
        text: What it does; empty unless ``described_options`` gave it.
        bounds: Its bounds, as pydantic's ``Field`` holds them.
    """

    name: str
    annotation: Any
    default: Any
    text: str = ""
    bounds: tuple[Any, ...] = ()

    @property
    def accepted(self) -> str:
        """The type in words: ``an integer of 1 or more``, ``one of 'a', 'b'`` and so on."""
        return accepted_by(self.annotation, self.bounds)


def options_of(factory: Callable[..., Any]) -> dict[str, Option]:
    """The options of a component by name: its factory's keyword parameters that have a default.

    Raises:
        ValueError: If the factory takes ``**kwargs``, or an option has no type that can be read.
    """
    called = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    if called is object.__init__ or _is_plain_module(called):
        return {}
    hints = _hints(factory, called)
    if is_dataclass(factory) and isinstance(factory, type):
        return {
            field.name: Option(field.name, hints[field.name], _default(field))
            # As its constructor has them: those that are keywords only come last.
            for field in sorted(fields(factory), key=lambda field: bool(field.kw_only))
            if field.init
        }
    options = {}
    for name, parameter in inspect.signature(called).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise ValueError(f"{factory!r} takes **{name}; options must be named")
        if parameter.default is parameter.empty:
            continue
        if name not in hints:
            raise ValueError(f"option '{name}' of {factory!r} has no type")
        options[name] = Option(name, hints[name], parameter.default)
    return options


def described_options(factory: Callable[..., Any]) -> dict[str, Option]:
    """The options of a component with their texts from the factory's docstring.

    Raises:
        ValueError: As ``options_of``.
    """
    texts = _texts(factory)
    return {
        name: replace(option, text=texts.get(name, ""))
        for name, option in options_of(factory).items()
    }


def _is_plain_module(called: Callable[..., Any]) -> bool:
    """Whether a class has no constructor but ``nn.Module``'s, which takes anything."""
    module = getattr(called, "__module__", "")
    return module == "torch.nn.modules.module" and called.__qualname__ == "Module.__init__"


def _hints(factory: Callable[..., Any], called: Callable[..., Any]) -> dict[str, Any]:
    try:
        where = factory if is_dataclass(factory) else called
        return typing.get_type_hints(where, include_extras=True)
    except NameError as error:
        raise ValueError(
            f"the types of {factory!r} cannot be read: {error}; import them outside TYPE_CHECKING"
        ) from error


def _default(field: Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is MISSING else factory()


def _texts(factory: Callable[..., Any]) -> dict[str, str]:
    """Texts of the arguments; those a class does not repeat come from the classes above it."""
    texts: dict[str, str] = {}
    for above in reversed(inspect.getmro(factory)) if isinstance(factory, type) else (factory,):
        texts |= _argument_texts(inspect.cleandoc(above.__doc__ or ""))
    return texts


def check_options(
    what: str, options: Mapping[str, Option], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values, converted to the options' types.

    Args:
        what: Whose options, for the message, such as ``sampler 'target_relative'``.
        options: The accepted options.
        values: Values by name, as a TOML file holds them.

    Raises:
        CIRError: If a name is unknown or a value does not fit, with one message for each.
    """
    checked = {}
    errors: list[CIRError] = []
    for name, value in values.items():
        try:
            if name not in options:
                raise unknown_name(f"{what} option", name, options)
            if _is_default(value, options[name].default):  # as a file of ours holds it
                checked[name] = options[name].default
                continue
            checked[name] = convert(f"option '{name}' of {what}", options[name].annotation, value)
        except CIRError as error:
            errors.append(error)
    if errors:
        raise CIRError("\n".join(str(error) for error in errors)) from errors[0]
    return checked


def _is_default(value: Any, default: Any) -> bool:
    """Whether a number is the default, which may lie outside of what is accepted: infinity."""
    return type(value) is type(default) is float and bool(value == default)


def convert(where: str, annotation: Any, value: Any) -> Any:
    """The value as the annotated type; lists become tuples, integers floats, nothing else changes.

    Raises:
        CIRError: If the value does not fit; with what is accepted.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter = TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    try:
        return adapter.validate_python(tuples(value))
    except ValidationError as error:
        accepted = accepted_by(annotation)
        if isinstance(value, str) and _is_list_of_strings(annotation):
            accepted += f""", such as '["{value:.40}"]'"""
        raise CIRError(f"{where} cannot be {shown(value)}; accepted: {accepted}") from error


def _is_list_of_strings(annotation: Any) -> bool:
    arguments = typing.get_args(annotation)
    return len(arguments) == 2 and arguments[1] is Ellipsis and arguments[0] is str


def tuples(value: Any) -> Any:
    """A value with its lists, at any depth, as tuples."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def accepted_by(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a type accepts, in words.

    Args:
        annotation: The type.
        bounds: Its bounds and other extras, where they do not stand in the type.
    """
    text = next((extra.text for extra in bounds if isinstance(extra, Accepted)), "")
    if text:
        return text
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    if annotation in names:
        return names[annotation] + _range(bounds)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [item for extra in arguments[1:] for item in getattr(extra, "metadata", [extra])]
        return accepted_by(arguments[0], inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(accepted_by(argument) for argument in arguments)
    if origin is dict:
        return "a table"
    if origin is tuple:
        return _accepted_list(arguments)
    if hasattr(annotation, "model_fields"):
        return "a table"
    if getattr(annotation, "__name__", "") == "Tensor":
        return "a tensor"
    return "none" if annotation is type(None) else str(annotation)


def _accepted_list(arguments: Sequence[Any]) -> str:
    """What a list accepts, by the arguments of its tuple type."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list, each {accepted_by(arguments[0])}"
    words = [accepted_by(argument) for argument in arguments]
    if len(set(words)) == 1:
        return f"a list of {len(words)}, each {words[0]}"
    return f"a list of {len(words)}: " + ", ".join(words)


def _range(bounds: Sequence[Any]) -> str:
    """Bounds in words, such as `` from 0 to 1``; "" for none."""
    words = {"ge": "from {}", "gt": "above {}", "le": "up to {}", "lt": "below {}"}
    limits = {
        name: getattr(bound, name) for bound in bounds for name in words if hasattr(bound, name)
    }
    if list(limits) == ["ge"]:
        return f" of {limits['ge']} or more"
    if set(limits) == {"ge", "le"}:
        return f" from {limits['ge']} to {limits['le']}"
    text = ", ".join(words[name].format(limit) for name, limit in limits.items())
    return f" {text}" if text else ""


def _argument_texts(doc: str) -> dict[str, str]:
    """Texts of the ``Args:`` or ``Attributes:`` section of a Google-style docstring."""
    texts: dict[str, str] = {}
    inside, current = False, ""
    for line in doc.splitlines():
        if line.strip() in ("Args:", "Attributes:"):
            inside = True
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
        elif inside and line.startswith("    ") and not line.startswith("     "):
            current, _, text = line.strip().partition(":")
            texts[current] = text.strip()
        elif inside and current and line.strip():
            texts[current] += " " + line.strip()
    return texts
