"""Values of numeric options outside of what is promised: refused with the accepted range."""

from __future__ import annotations

import math
import typing
from typing import Any

import pytest

from cir_plugins.config.resolve import plan_component
from cir_plugins.errors import CIRError
from cir_plugins.plugins.options import options_of
from cir_plugins.plugins.registry import Kind, Registry
from tests.command import Call

VALUES = (math.nan, math.inf, -math.inf, -1, 0, 10**12, -(10**12), 10**400)
REGISTRY = Registry.load()
# What a model is made of, or as long as: memory grows with it.
SIZES = ("size", "width", "length", "heads", "channels", "projection", "hidden", "per_anchor")


def is_numeric(annotation: Any) -> bool:
    """Whether a type accepts numbers."""
    if annotation in (int, float):
        return True
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return any(is_numeric(argument) for argument in typing.get_args(annotation))


NUMERIC = [
    (offer.kind, offer.name, option.name)
    for offer in REGISTRY.offers()
    for option in options_of(REGISTRY.factory(offer.kind, offer.name)).values()
    if is_numeric(option.annotation)
]


@pytest.mark.parametrize(("kind", "name", "option"), NUMERIC)
def test_numeric_options_are_bounded(kind: Kind, name: str, option: str) -> None:
    refused = []
    for value in VALUES:
        try:
            plan_component(REGISTRY, kind, name, {option: value})
        except CIRError as error:
            refused.append(value)
            message = str(error)
            assert message.startswith(f"option '{option}' of {kind} '{name}' cannot be ")
            assert "accepted: a" in message
            assert len(message) < 500
    assert {math.inf, -math.inf} <= {*refused}
    assert any(value != value for value in refused)
    if option.endswith(SIZES):
        assert {-1, 10**12, -(10**12), 10**400} <= {*refused}


def test_there_are_numeric_options_to_test() -> None:
    assert len(NUMERIC) > 60
    assert ("backbone", "blip2", "text_length") in NUMERIC


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("backbone.text_length=-1", "cannot be -1; accepted: an integer from 3 to 512"),
        ("backbone.text_length=0", "cannot be 0; accepted: an integer from 3 to 512"),
        ("backbone.dropout=nan", "cannot be nan; accepted: a number from 0, below 1"),
        ("backbone.dropout=-1.0", "cannot be -1.0; accepted: a number from 0, below 1"),
        ("method.temperature=0", "cannot be 0; accepted: a number above 0, up to 100"),
    ],
)
def test_the_accepted_range_is_shown(cir: Call, setting: str, message: str) -> None:
    answer = cir(
        *("train", "contrastive", "--data", "fashioniq", "--root", "x", "--out", "y"),
        *("--set", "backbone=tiny_blip2", "--set", setting),
    )
    assert answer.complains(message)


@pytest.mark.parametrize("option", ["images=100000000000", "workers=-1", "workers=1000000"])
def test_a_suite_cannot_draw_without_end(cir: Call, tmp_path: Any, option: str) -> None:
    """10^11 images were begun."""
    suite = tmp_path / "suite.toml"
    rows = '[data]\nname = "fashioniq"\n[[rows]]\nmethod = "image_only"\n'
    key, _, value = option.partition("=")
    suite.write_text(f"[make.garments]\n{key} = {value}\n{rows}")
    assert cir("bench", suite, "--out", tmp_path / "out").complains(f"'{key}' of table [make.garm")
    made = cir("make-data", "garments", "--out", tmp_path / "drawn", f"--{key}", value)
    assert made.code == 2
    assert not (tmp_path / "drawn").exists()
