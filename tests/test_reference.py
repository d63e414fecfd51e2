"""The reference names everything that is public, so that nobody has to search the sources."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from typing import Any

import pytest
import yaml

import cir_plugins
from cir_plugins import Loss, Method, Registry, Sampler, testing
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.testing.offers import KNOWN
from dqe_plugin.sampler import TargetRelative
from tests.places import ROOT

API = ROOT / "docs" / "api"
# What public objects give or hold, documented beside them and never made by users.
HELD = {
    "cir_plugins.retriever.OpenedData",
    *(f"cir_plugins.audits.tables.{name}" for name in ("Table", "Row", "Change")),
}


def entries(page: str) -> set[str]:
    """Names whose docstrings a page shows."""
    lines = (API / page).read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("::: ") for line in lines if line.startswith("::: ")}


def test_every_public_name_is_in_the_reference() -> None:
    """Users' names on one page, those of plugin authors on another, none on both."""
    homes = {name: home for home, names in cir_plugins._HOMES.items() for name in names}
    names = {f"cir_plugins.{homes[n]}.{n}" for n in cir_plugins.__all__}
    users, authors = entries("python.md"), entries("host.md")
    assert users | authors == names | HELD | {"cir_plugins.method"}
    assert not users & authors
    first = ("load", "build", "train", "compare", "Retriever", "Evaluation")
    assert {f"cir_plugins.{homes[name]}.{name}" for name in first} <= users


def test_every_check_is_in_the_reference() -> None:
    expected = {f"{getattr(testing, name).__module__}.{name}" for name in testing.__all__}
    assert entries("testing.md") == expected


@pytest.mark.parametrize("kind", ["method", "backbone", "sampler", "loss", "dataset", "index"])
def test_every_component_is_in_the_reference(kind: str) -> None:
    registry = Registry.load()
    documented = entries("parts.md") | entries("host.md") | entries("dqe.md")
    ours = ("cir_plugins.", "dqe_plugin.", "baselines_plugin.")
    missing = []
    for offer in registry.offers(kind):  # type: ignore[arg-type]
        factory = registry.factory(offer.kind, offer.name)
        path = f"{factory.__module__}.{factory.__qualname__}"
        if path.startswith(ours) and not {path, factory.__module__} & documented:
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
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if name in [target.id for target in targets if isinstance(target, ast.Name)]:
            text = getattr(after, "value", None)
            return isinstance(text, ast.Constant) and isinstance(text.value, str)
    raise AssertionError(f"{path} is defined nowhere")


@pytest.mark.parametrize("page", sorted(page.name for page in API.glob("*.md")))
def test_every_entry_has_a_docstring(page: str) -> None:
    """An entry without a docstring prints a bare name, and no builder warns of it."""
    assert [path for path in sorted(entries(page)) if not described(path)] == []


def shown(name: str) -> bool:
    """Whether the builder's filters keep a member: "!" begins a filter that removes."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    options = settings["plugins"][1]["mkdocstrings"]["handlers"]["python"]["options"]
    return not [rule for rule in options["filters"] if re.search(rule.removeprefix("!"), name)]


def test_reference_shows_public_calls_and_hides_private_names() -> None:
    """Samplers, losses and tables are called or indexed: without these an entry has no shapes."""
    assert [
        name for name in ("__call__", "__getitem__", "__len__", "loss_terms") if not shown(name)
    ] == []
    hidden = ("_inner", "__init__", "__getattr__", "__repr__", "__all__", "__mangled")
    assert [name for name in hidden if shown(name)] == []


@pytest.mark.parametrize("component", [Sampler, Loss, TargetRelative, InfoNCE])
def test_called_components_document_their_shapes(component: Any) -> None:
    assert "(Q, N)" in component.__call__.__doc__ or "(B" in component.__call__.__doc__


def test_offers_and_method_attributes_are_documented() -> None:
    """What the host reads by name and no page names, nobody can write."""
    guide = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    method = inspect.getdoc(Method) or ""
    carried = [
        "check_compatibility",
        "official",
        "official_files",
        "official_settings",
        "eval_only_options",
        "text_variants",
    ]
    assert [name for name in carried if f"`{name}" not in guide] == []
    assert [name for name in carried if name not in method] == []
    head = sys.modules[Method.__module__].__doc__ or ""
    assert [name for name in KNOWN if f"`{name}`" not in guide or f"``{name}``" not in head] == []


def test_headings_exist_and_pages_are_in_menu() -> None:
    pages = {str(page.relative_to(API.parent)) for page in API.parent.rglob("*.md")}
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    assert pages == set(re.findall(r": (\S+\.md)$", menu, re.MULTILINE))
    assert "index.md" in pages
    headings = re.findall(
        r"^## (.*)$", (API / "parts.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings == ["Methods", "Backbones", "Samplers", "Losses", "Datasets", "Search backends"]


def test_every_sampler_module_is_in_the_reference() -> None:
    folders = ("dqe_plugin", "cir_plugins/mining", "cir_plugins/integrations")
    files = [file for folder in folders for file in (ROOT / folder).glob("*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    inner = {
        "dqe_plugin.hooks",
        "dqe_plugin.order_statistics",
        "cir_plugins.mining.miner",
        "cir_plugins.mining.scored_by",
        *(f"cir_plugins.integrations.{name}" for name in ("columns", "extras", "items")),
    }
    expected = {name for name in modules - inner if not name.endswith("__init__")}
    assert expected == entries("dqe.md") | entries("sampler.md")
