from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import cir_plugins.builtin
from cir_plugins import hookimpl
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.testing import ContractError, check_plugin


def untyped(*, size=3):  # type: ignore[no-untyped-def]
    """A part."""
    return size


def silent(*, size: int = 3) -> int:
    return size


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:X", "sampler 'mine': .* cannot be imported"),
        (untyped, "sampler 'mine': options: option 'size' of .* has no type"),
        (silent, "sampler 'mine' has no docstring"),
        (InBatch.__call__, "parameter 'self' of .* needs a default"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_told(target: Any, message: str) -> None:
    @hookimpl
    def cir_samplers() -> Any:
        return {"mine": target}

    with pytest.raises(ContractError, match=message):
        check_plugin(SimpleNamespace(cir_samplers=cir_samplers))


def test_a_plugin_that_does_not_load_is_told() -> None:
    with pytest.raises(ContractError, match="the plugin does not load: backbone 'clip' is taken"):
        check_plugin(SimpleNamespace(cir_backbones=cir_plugins.builtin.cir_backbones))
