"""House rules that no linter checks: floors, public names, sizes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cir_plugins
from tests.places import ROOT

HOST = "cir_plugins"
PLUGINS = ("dqe_plugin", "baselines_plugin", "garments_plugin")
PACKAGES = tuple(name for name in (HOST, *PLUGINS) if (ROOT / name).is_dir())
PUBLIC = (HOST, f"{HOST}.testing")
# Of use to people who have torch and neither this host's other rooms nor its model libraries.
TORCH_ALONE = (
    *(f"dqe_plugin/{name}.py" for name in ("sampler", "order_statistics", "loss", "attributes")),
    *(f"cir_plugins/mining/{name}.py" for name in ("__init__", "blocks", "draw", "negatives")),
    *(f"cir_plugins/mining/{name}.py" for name in ("agreement", "relevance", "report")),
    *(f"cir_plugins/retrieval/{name}.py" for name in ("__init__", "counting", "scores")),
    *(f"cir_plugins/{name}.py" for name in ("__init__", "seeds", "types")),
)
MOST_LINES = 400  # 300, or more where one cohesive thing would be torn apart
MOST_LINES_OF_A_FUNCTION = 50

# From the ground up. A room is a folder of the host, or one of the few files at its root.
FLOORS = (
    ("errors", "types", "features", "files", "reading", "seeds", "workers"),
    ("plugins", "distributed"),
    ("config", "data"),
    ("method",),
    ("encoding",),
    ("retrieval", "builtin"),
    ("mining",),
    ("training", "testing"),
    ("runs",),
    ("retriever", "integrations"),
    ("loading", "training_run"),
    ("audits", "bench", "search", "service", "viewer"),
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
            module = ".".join(segment for segment in (start, node.module or "") if segment)
            for alias in node.names:
                yield module, alias.name, node.lineno


def imported_files(file: Path) -> Iterator[tuple[Path, int]]:
    """Files of our packages that a file imports, with the line; those for types too."""
    for module, name, line in imports(file):
        if module.split(".")[0] not in PACKAGES:
            continue
        base = ROOT / module.replace(".", "/")
        for candidate in (base / f"{name}.py", base / name / "__init__.py"):
            if name and candidate.is_file():
                yield candidate, line
                break
        else:
            # A name that the host hands on is the host's face, not a room.
            if module != HOST:
                yield (base / "__init__.py" if base.is_dir() else base.with_suffix(".py")), line


def room(file: Path) -> str:
    """The room of the host that a file is in."""
    return file.relative_to(ROOT / HOST).parts[0].removesuffix(".py")


def host_files() -> list[Path]:
    return [file for file in files(HOST) if file != ROOT / HOST / "__init__.py"]


@pytest.mark.parametrize("file", host_files(), ids=shown)
def test_imports_of_the_host_point_down(file: Path) -> None:
    assert room(file) in LEVEL, f"{shown(file)} is in no room: see FLOORS in {__file__}"
    higher = [
        f"line {line}: {shown(other)}"
        for other, line in imported_files(file)
        if other.is_relative_to(ROOT / HOST) and LEVEL[room(other)] > LEVEL[room(file)]
    ]
    assert not higher, f"{shown(file)} imports from a higher floor: {', '.join(higher)}"


# Rooms of the baselines from the ground up.
BASELINE_ROOMS = ("ranges", "licences", "backbones", "parts", "checkpoints", "methods", "hooks")


def test_imports_of_the_baselines_point_down() -> None:
    """A backbone that needs a checkpoint's reader, or a part a method, is a circle to come."""
    package = ROOT / "baselines_plugin"

    def level(file: Path) -> int:
        return BASELINE_ROOMS.index(file.relative_to(package).parts[0].removesuffix(".py"))

    higher = [
        f"{shown(file)}:{line}: {shown(other)}"
        for file in files("baselines_plugin")
        if file != package / "__init__.py"
        for other, line in imported_files(file)
        if other.is_relative_to(package) and level(other) > level(file)
    ]
    assert not higher


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """A circle of a graph of names, if there is one."""
    sorter: TopologicalSorter[str] = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


def test_no_files_import_one_another_in_a_circle() -> None:
    graph = {
        shown(file): {shown(other) for other, _ in imported_files(file) if other != file}
        for file in ALL_FILES
    }
    assert not circles(graph)


def test_no_rooms_import_one_another_in_a_circle() -> None:
    """Two rooms of one floor that import each other are one room."""
    graph: dict[str, set[str]] = {}
    for file in host_files():
        others = {room(o) for o, _ in imported_files(file) if o.is_relative_to(ROOT / HOST)}
        graph.setdefault(room(file), set()).update(others - {room(file)})
    assert not circles(graph)


def test_the_host_never_imports_a_plugin() -> None:
    misplaced = [
        f"{shown(file)}:{line}"
        for file in files(HOST)
        for module, _, line in imports(file)
        if module.split(".")[0] in PLUGINS
    ]
    assert not misplaced


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


@pytest.mark.parametrize("path", TORCH_ALONE)
def test_mining_and_the_sampler_import_torch_alone(path: str) -> None:
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    wrong = [
        f"line {line}: {module}"
        for module, _, line in imports(file)
        if line not in for_types
        and module.split(".")[0] not in {*sys.stdlib_module_names, "torch", *PACKAGES}
    ]
    wrong += [
        f"line {line}: {shown(other)}"
        for other, line in imported_files(file)
        if line not in for_types and shown(other) not in TORCH_ALONE
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


def test_modules_are_named_for_what_they_give() -> None:
    vague = {"utils", "util", "common", "helper", "helpers", "base", "manager", "misc"}
    assert not [shown(file) for file in ALL_FILES if file.stem in vague]


def test_public_names_have_one_home_each() -> None:
    """And ``__all__`` is sorted."""
    assert sorted(cir_plugins.__all__, key=_isort) == cir_plugins.__all__
    homes = [name for names in cir_plugins._HOMES.values() for name in names]
    assert sorted(homes) == sorted(cir_plugins.__all__)


def _isort(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions, as the linter sorts them."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
