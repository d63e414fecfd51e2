"""Rules of the house that no linter knows: floors, public names, sizes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cir_plugins

ROOT = Path(__file__).parents[1]
HOST = "cir_plugins"
PLUGINS = ("dqe_plugin", "baselines_plugin")
PACKAGES = tuple(name for name in (HOST, *PLUGINS) if (ROOT / name).is_dir())
PUBLIC = (HOST, f"{HOST}.testing")
TORCH_ALONE = ("sampler", "pools", "drawing", "negatives", "loss", "attributes")
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 50

# Lower floors never import higher ones; modules of one floor may import one another.
FLOORS = (
    ("errors", "texts", "settings", "options", "hookspecs"),
    ("types", "config", "metrics", "ranking", "images", "features", "keys", "atomic"),
    ("shards", "meeting", "world"),
    ("ranges", "registry", "method", "device", "garments"),
    (
        "plan",
        "refusal",
        "flat",
        "data",
        "readers",
        "encode",
        "cache",
        "filling",
        "embed",
        "builtin",
    ),
    (
        "tally",
        "pools",
        "drawing",
        "bulk",
        "mining",
        "evaluate",
        "submission",
        "checkpoint",
        "check",
        "averaging",
        "schedule",
        "memory",
    ),
    ("loader", "step", "testing", "convert", "folder", "newplugin"),
    ("train",),
    ("run", "start"),
    ("reopen",),
    ("bench",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


ALL_FILES = [file for package in PACKAGES for file in files(package)]


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imports(file: Path) -> Iterator[tuple[str, str, int]]:
    """(module, name or "", line) of each import, those for types too, relative ones resolved."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(parts[: -node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module or "") if part)
            for alias in node.names:
                yield module, alias.name, node.lineno


def host_modules(file: Path) -> Iterator[tuple[str, int]]:
    """Names of the host's modules that a file imports, one part deep."""
    for module, name, line in imports(file):
        if module == HOST and name:
            yield name, line
        elif module.startswith(f"{HOST}."):
            yield module.split(".")[1], line


def host_files() -> list[Path]:
    return [file for file in files(HOST) if file != ROOT / HOST / "__init__.py"]


@pytest.mark.parametrize("file", host_files(), ids=shown)
def test_imports_of_the_host_point_down(file: Path) -> None:
    own = file.relative_to(ROOT / HOST).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} stands on no floor: add it to FLOORS in {__file__}"
    higher = [
        f"line {line}: {name}"
        for name, line in host_modules(file)
        if LEVEL.get(name, 99) > LEVEL[own]
    ]
    assert not higher, f"{shown(file)} imports from a higher floor: {', '.join(higher)}"


def test_the_host_never_imports_a_plugin() -> None:
    found = [
        f"{shown(file)}:{line}"
        for file in files(HOST)
        for module, _, line in imports(file)
        if module.split(".")[0] in PLUGINS
    ]
    assert not found


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != HOST])
def test_plugins_import_public_names_only(package: str) -> None:
    wrong = []
    for file in files(package):
        for module, name, line in imports(file):
            if module.split(".")[0] in PLUGINS and module.split(".")[0] != package:
                wrong.append(f"{shown(file)}:{line}: {module}")
            elif module.split(".")[0] == HOST and module not in PUBLIC:
                wrong.append(f"{shown(file)}:{line}: {module} is not public")
            elif module == HOST and name not in cir_plugins.__all__:
                wrong.append(f"{shown(file)}:{line}: cir_plugins.{name or '*'} is not public")
    assert not wrong


@pytest.mark.parametrize("name", TORCH_ALONE)
def test_the_plugins_arithmetic_imports_torch_alone(name: str) -> None:
    """The sampler is of use to people who have neither this host nor its model libraries."""
    file = ROOT / "dqe_plugin" / f"{name}.py"
    wrong = [
        f"line {line}: {module}"
        for module, _, line in imports(file)
        if module.split(".")[0] not in {*sys.stdlib_module_names, "torch"}
        and module.removeprefix("dqe_plugin.") not in TORCH_ALONE
    ]
    assert not wrong


@pytest.mark.parametrize("file", ALL_FILES, ids=shown)
def test_files_and_functions_are_short(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MOST_LINES, f"{shown(file)} is too long: split it"
    long = [
        f"{node.name} ({lines} lines)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := lines_without_docstring(node)) > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long, f"{shown(file)}: too long: {', '.join(long)}"


def lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_every_module_of_the_host_has_a_floor_and_every_floor_a_module() -> None:
    """A name that is left in the list after a module is gone hides the next one of that name."""
    there = {file.relative_to(ROOT / HOST).parts[0].removesuffix(".py") for file in host_files()}
    assert there == set(LEVEL)


def test_modules_are_named_for_what_they_give() -> None:
    vague = {"utils", "util", "common", "helper", "helpers", "base", "manager", "misc"}
    assert not [shown(file) for file in ALL_FILES if file.stem in vague]


def test_public_names_are_sorted_and_have_one_home_each() -> None:
    assert sorted(cir_plugins.__all__, key=_isort) == cir_plugins.__all__
    homes = [name for names in cir_plugins._HOMES.values() for name in names]
    assert sorted(homes) == sorted(cir_plugins.__all__)


def _isort(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions, as the linter sorts them."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
