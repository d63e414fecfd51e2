"""The reference names everything that is public, so that nobody has to search the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cir_plugins
from cir_plugins import Registry, testing

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"


def entries(page: str) -> set[str]:
    """What a page asks the docstrings of."""
    lines = (API / page).read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("::: ") for line in lines if line.startswith("::: ")}


def test_every_public_name_of_the_host_is_in_the_reference() -> None:
    homes = {name: home for home, names in cir_plugins._HOMES.items() for name in names}
    assert entries("host.md") == {f"cir_plugins.{homes[n]}.{n}" for n in cir_plugins.__all__}


def test_every_check_is_in_the_reference() -> None:
    wanted = {f"{getattr(testing, name).__module__}.{name}" for name in testing.__all__}
    assert entries("testing.md") == wanted


@pytest.mark.parametrize("kind", ["method", "backbone", "sampler", "loss", "dataset"])
def test_every_part_is_in_the_reference(kind: str) -> None:
    registry = Registry.load()
    known = entries("parts.md") | entries("host.md") | entries("dqe.md")
    ours = ("cir_plugins.", "dqe_plugin.", "baselines_plugin.")
    missing = []
    for offer in registry.offers(kind):  # type: ignore[arg-type]
        factory = registry.factory(offer.kind, offer.name)
        path = f"{factory.__module__}.{factory.__qualname__}"
        if path.startswith(ours) and not {path, factory.__module__} & known:
            missing.append(path)
    assert not missing


def described(path: str) -> bool:
    """Whether a module, or what a module's top level defines, has a docstring of its own."""
    file = ROOT / f"{path.replace('.', '/')}.py"
    package = file.with_suffix("") / "__init__.py"
    if file.is_file() or package.is_file():
        tree = ast.parse((file if file.is_file() else package).read_text(encoding="utf-8"))
        return ast.get_docstring(tree) is not None
    home, _, name = path.rpartition(".")
    body = ast.parse((ROOT / f"{home.replace('.', '/')}.py").read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) is not None
        named = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if name in [target.id for target in named if isinstance(target, ast.Name)]:
            text = getattr(after, "value", None)
            return isinstance(text, ast.Constant) and isinstance(text.value, str)
    raise AssertionError(f"{path} is defined nowhere")


@pytest.mark.parametrize("page", sorted(page.name for page in API.glob("*.md")))
def test_every_entry_says_what_it_is(page: str) -> None:
    """An entry without a docstring prints a bare name, and no builder warns of it."""
    assert [path for path in sorted(entries(page)) if not described(path)] == []


def test_every_module_of_the_sampler_is_in_the_reference() -> None:
    files = [*(ROOT / "dqe_plugin").glob("*.py"), *(ROOT / "dqe_plugin/adapters").glob("*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    inner = {"dqe_plugin.hooks", "dqe_plugin.adapters.items", "dqe_plugin.adapters.columns"}
    wanted = {name for name in modules - inner if not name.endswith("__init__")}
    assert wanted == entries("dqe.md") | entries("sampler.md")
