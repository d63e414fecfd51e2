from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cir_plugins import Method, hookimpl
from cir_plugins.config.resolve import plan_component
from cir_plugins.errors import CIRError
from cir_plugins.plugins.declarations import (
    BATCH_DEPENDENT,
    DECLARATIONS,
    NEEDS,
    OFFERS,
    PROTOCOLS,
    check_declarations,
)
from cir_plugins.plugins.registry import Registry
from tests.places import ROOT

DOCS = ROOT / "docs" / "plugins.md"


def test_what_is_left_out_has_its_default() -> None:
    for declaration in DECLARATIONS:
        assert declaration.of(object()) == declaration.default
        check_declarations(declaration.kind, object())


def test_a_property_counts_once_it_is_built() -> None:
    class Loss:
        @property
        def batch_dependent(self) -> bool:
            return True

    assert BATCH_DEPENDENT.of(Loss) is False
    assert BATCH_DEPENDENT.of(Loss()) is True


@pytest.mark.parametrize(
    ("declaration", "value", "message"),
    [
        (OFFERS, ["text"], r"'offers' is \['text'\]; accepted: a frozenset of strings"),
        (NEEDS, frozenset({1}), "'needs' is .*; accepted: a frozenset of strings"),
        (BATCH_DEPENDENT, "no", "'batch_dependent' is 'no'; accepted: True or False"),
        (PROTOCOLS, {"a": 1}, "'protocols' is .*; accepted: a mapping name -> options"),
    ],
)
def test_a_wrong_type_names_what_is_accepted(declaration: Any, value: Any, message: str) -> None:
    with pytest.raises(CIRError, match=message):
        declaration.of(SimpleNamespace(**{declaration.name: value}))


def test_planning_names_plugin_and_component() -> None:
    """A list of offers was taken, until a method's needs were subtracted from it."""

    class Backbone:
        offers = ("image_embedding",)

    @hookimpl
    def cir_backbones() -> Any:
        return {"mine": Backbone}

    registry = Registry.load({"acme": SimpleNamespace(cir_backbones=cir_backbones)})
    message = r"backbone 'mine' of plugin 'acme' is faulty: 'offers' is \('image_embedding',\); "
    with pytest.raises(CIRError, match=message):
        plan_component(registry, "backbone", "mine", {})


def test_the_method_class_declares_what_methods_may_carry() -> None:
    check_declarations("method", Method)


def test_the_docs_list_every_declaration() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [d.name for d in DECLARATIONS if f"| `{d.name}` |" not in text]
    assert missing == []
