from __future__ import annotations

from importlib import import_module
from pathlib import Path
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


def test_a_name_and_a_folder_in_the_way_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a project the folder of its name is found first, and has no hook."""
    with pytest.raises(ContractError, match="import the plugin 'mine' and give its module"):
        check_plugin("mine")
    (tmp_path / "hiding_project").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ContractError, match=r"a folder that hides .*hiding_project.* inside of the"
    ):
        check_plugin(import_module("hiding_project"))
