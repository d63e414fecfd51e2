from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from torch import nn

from cir_plugins.errors import CIRError
from cir_plugins.plugins.options import check_options, convert, described_options, options_of


class Above:
    """A part.

    Args:
        width: How wide,
            in pixels.
        name: Said again below.
    """

    def __init__(
        self, needed: int, *, width: int = 3, name: str = "x", when: float | None = None
    ) -> None:
        del needed, width, name, when


class Below(Above):
    """A part below.

    Args:
        name: Said here.
    """


def test_options_are_the_parameters_with_defaults() -> None:
    options = described_options(Above)
    assert list(options) == ["width", "name", "when"]
    assert options["width"].default == 3
    assert options["width"].accepted == "an integer"
    assert options["width"].text == "How wide, in pixels."
    assert options["when"].accepted == "a number or none"


def test_texts_come_from_the_classes_above() -> None:
    options = described_options(Below)
    assert options["width"].text == "How wide, in pixels."
    assert options["name"].text == "Said here."


def test_options_of_a_dataclass_are_its_fields() -> None:
    @dataclass(frozen=True)
    class Settings:
        """Settings.

        Attributes:
            sizes: Some sizes.
        """

        sizes: tuple[int, ...] = ()
        rest: list[str] = field(default_factory=list)
        seen: int = field(default=0, init=False)

    options = described_options(Settings)
    assert list(options) == ["sizes", "rest"]
    assert options["sizes"].accepted == "a list, each an integer"
    assert options["sizes"].text == "Some sizes."


def test_classes_without_a_constructor_have_no_options() -> None:
    class Plain:
        pass

    class Module(nn.Module):
        pass

    assert options_of(Plain) == {}
    assert options_of(Module) == {}


def test_free_keywords_and_untyped_options_are_errors() -> None:
    def free(**rest: int) -> None:
        del rest

    def untyped(size=3):  # type: ignore[no-untyped-def]
        del size

    def unreadable(size: NoSuchType = 3) -> None:  # type: ignore[name-defined] # noqa: F821
        del size

    with pytest.raises(ValueError, match=r"takes \*\*rest; options must be named"):
        options_of(free)
    with pytest.raises(ValueError, match=r"option 'size' of .* has no type"):
        options_of(untyped)
    with pytest.raises(ValueError, match="'NoSuchType' is not defined; import them outside"):
        options_of(unreadable)


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (int, 3, 3),
        (bool, True, True),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[float, float], [0, 0.5], (0.0, 0.5)),
        (Literal["a", "b"], "b", "b"),
        (int | None, 4, 4),
        (tuple[tuple[str, int], ...], [["a", 1]], (("a", 1),)),
    ],
)
def test_values_are_converted(annotation: Any, value: Any, converted: Any) -> None:
    actual = convert("here", annotation, value)
    assert actual == converted
    assert type(actual) is type(converted)


@pytest.mark.parametrize(
    ("annotation", "value", "accepted"),
    [
        (int, 3.0, "an integer"),
        (int, "3", "an integer"),
        (int, True, "an integer"),
        (float, "3", "a number"),
        (bool, 1, "true or false"),
        (str, 3, "a string"),
        (Literal["a", "b"], "c", "one of 'a', 'b'"),
        (tuple[float, float], [1], "a list of 2, each a number"),
        (tuple[int, ...], 3, "a list, each an integer"),
    ],
)
def test_values_that_do_not_fit_are_errors(annotation: Any, value: Any, accepted: str) -> None:
    with pytest.raises(CIRError) as raised:
        convert("option 'x' of y", annotation, value)
    assert str(raised.value) == f"option 'x' of y cannot be {value!r}; accepted: {accepted}"


def test_all_wrong_options_come_at_once() -> None:
    options = options_of(Above)
    with pytest.raises(CIRError) as raised:
        check_options("part 'p'", options, {"widht": 1, "name": 3, "width": 5})
    assert str(raised.value).splitlines() == [
        "unknown part 'p' option 'widht'; nearest: width",
        "accepted: name, when, width",
        "option 'name' of part 'p' cannot be 3; accepted: a string",
    ]
    assert check_options("part 'p'", options, {"width": 5}) == {"width": 5}
