from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cir_plugins.bench import runner
from cir_plugins.bench.runner import run_suite
from cir_plugins.bench.suite import read_suite
from cir_plugins.method import Components
from cir_plugins.plugins.hookspecs import hookimpl
from cir_plugins.plugins.registry import Registry
from tests.bench.toy import Broken
from tests.fakes import FakeBackbone

TEXT = """
[data]
name = "fashioniq"

[defaults]
backbone = "fake"
train = { epochs = 1, lr = 0.01 }
"""


class Narrow(Broken):
    """Cannot be built."""

    def __init__(self, components: Components, *, width: int = 0) -> None:
        super().__init__(components)
        if width < 1:
            raise ValueError(f"width must be 1 or more, not {width}")


class Computing(FakeBackbone):
    """Reads its weights while it is built, as no tensor without memory can."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.words.sum().item()


def registry() -> Registry:
    @hookimpl
    def cir_backbones() -> Mapping[str, Callable[..., Any]]:
        return {"fake": FakeBackbone, "computing": Computing}

    @hookimpl
    def cir_methods() -> Mapping[str, Callable[..., Any]]:
        return {"narrow": Narrow}

    plugin = SimpleNamespace(cir_backbones=cir_backbones, cir_methods=cir_methods)
    return Registry.load({"toy": plugin})


def test_entries_are_built_before_the_first_trains(
    tmp_path: Path,
    garments_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A third row that could not work was found after two had trained."""
    labels = ('method = "contrastive"\n', 'label = "other"\nmethod = "contrastive"\n')
    entries = (*labels, 'method = "narrow"\n', 'label = "good"\nmethod = "narrow"\n')
    text = "".join(f"[[rows]]\n{entry}" for entry in entries)
    (tmp_path / "s.toml").write_text(TEXT + text)
    order = []
    execute = runner.execute

    def spy(plan: Any, folder: Path, **options: Any) -> Any:
        order.append((folder.name, "narrow: method" in capsys.readouterr().err))
        return execute(plan, folder, **options)

    monkeypatch.setattr(runner, "execute", spy)
    suite = read_suite(tmp_path / "s.toml").on_data(None, garments_root)
    result = run_suite(suite, registry(), tmp_path / "out", run={"device": "cpu", "workers": 0})
    assert order[0] == ("contrastive-seed0", True)
    assert [name for name, _ in order] == ["contrastive-seed0", "other-seed0"]
    reasons = {record.label: record.error for record in result.failed}
    assert reasons["narrow"] == "method 'narrow': width must be 1 or more, not 0"


def test_component_without_meta_form_is_planned_only(tmp_path: Path, garments_root: Path) -> None:
    text = TEXT.replace('"fake"', '"computing"') + '[[rows]]\nmethod = "contrastive"\n'
    (tmp_path / "s.toml").write_text(text)
    suite = read_suite(tmp_path / "s.toml").on_data(None, garments_root)
    result = run_suite(
        suite,
        registry(),
        tmp_path / "out",
        progress=False,
        run={"device": "cpu", "workers": 0},
    )
    assert not result.failed
