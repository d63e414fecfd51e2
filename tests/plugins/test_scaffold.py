"""The author's kit: what it writes installs, passes its own tests, and is listed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from cir_plugins import CIRError, Registry
from cir_plugins.plugins.scaffold import KINDS, render, write_plugin
from cir_plugins.testing import check_method, check_plugin, check_sampler
from tests.places import ROOT
from tests.plugin_folder import run_cir
from tests.search.shop import draw_pictures
from tests.testing.toy import Toy


def installed(project: Path, name: str) -> Path:
    """The project as an installer leaves it: with its entry points beside the package."""
    table = tomllib.loads((project / "pyproject.toml").read_text())
    info = project / f"{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    points = table["project"]["entry-points"]["cir_plugins"]
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[cir_plugins]", *lines]) + "\n")
    return project


def own_tests(project: Path) -> subprocess.CompletedProcess[str]:
    """The project's tests, run in its folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project)],
        env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_project_passes_its_own_tests(tmp_path: Path) -> None:
    """A template that drifts from the host would greet every author with a failure."""
    made = run_cir("new-plugin", "acme", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    project = installed(tmp_path / "acme", "acme")
    listed = run_cir("list", plugins=project, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert not [kind for kind in KINDS if f"acme_{kind}" not in listed.stdout]
    outcome = own_tests(project)
    assert outcome.returncode == 0, outcome.stdout
    assert "18 passed" in outcome.stdout


def without(project: Path, name: str, kinds: tuple[str, ...]) -> None:
    """Delete kinds after the project's README: module, test, hook and row."""
    hooks, suite = project / name / "__init__.py", project / "suite.toml"
    for kind in kinds:
        (project / name / f"{kind}.py").unlink()
        (project / "tests" / f"test_{kind}.py").unlink()
        plural = {"loss": "losses", "index": "indexes"}.get(kind, f"{kind}s")
        text, count = re.subn(
            rf"\n\n@hookimpl\ndef cir_{plural}\(\).*?\n    return .*?\n",
            "",
            hooks.read_text(),
            flags=re.S,
        )
        assert count == 1, kind
        hooks.write_text(text)
        entries = suite.read_text().split("[[rows]]")
        others = [entry for entry in entries if f'label = "{name}_{kind}"' not in entry]
        assert len(entries) - len(others) == (kind not in ("dataset", "index")), kind
        suite.write_text("[[rows]]".join(others))


def test_a_project_of_one_kind_is_whole(tmp_path: Path) -> None:
    """The last command must work for whoever brings a loss and deletes the rest after reading."""
    project = tmp_path / "acme"
    write_plugin("acme", project, Registry.load({}))
    without(project, "acme", ("backbone", "sampler", "method", "dataset", "index"))
    suite = project / "suite.toml"
    suite.write_text(suite.read_text().replace("images = 160", "images = 60"))
    installed(project, "acme")
    outcome = own_tests(project)
    assert "3 passed" in outcome.stdout, outcome.stdout
    done = run_cir("bench", "suite.toml", "--out", "runs", plugins=project, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((project / "runs" / "results.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["contrastive", "acme_loss"]


def test_every_kind_is_in_suite_or_readme() -> None:
    suite = tomllib.loads(render("acme")["suite.toml"])
    rows = suite["rows"][1:]
    assert [row["label"] for row in rows] == [f"acme_{kind}" for kind in KINDS[:-2]]
    assert [row.get(kind) for row, kind in zip(rows, KINDS, strict=False)] == [
        f"acme_{kind}" for kind in KINDS[:-2]
    ]
    for text in (render("acme")["suite.toml"], render("acme")["README.md"]):
        assert "cir bench suite.toml --data acme_dataset --root DIR" in text


def test_methods_that_teach_allow_micro_batches(tmp_path: Path) -> None:
    """Whoever copies a method that overrides ``loss_terms`` fails under torchrun."""
    guide = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "cir_neighbours" / "cir_neighbours.py").read_text()
    for text in (guide, example, render("acme")["acme/method.py"]):
        assert re.search(r"def loss_terms_from\(\s*self, queries", text)
        assert "def loss_terms(" not in text


def test_the_guides_components_keep_the_contract() -> None:
    """Code in a page is copied before it is read: it has to work as it stands."""
    guide = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    module = ModuleType("my_plugin")
    module.__file__ = "plugins.md"
    for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        if "@hookimpl" in block:
            exec(block, module.__dict__)
    check_plugin(module)
    check_sampler(module.Band())
    assert module.Symmetric.supports_micro_batches()
    check_method(module.Symmetric, Toy())


def test_the_ways_to_install_are_one() -> None:
    texts = [
        (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8"),
        (ROOT / "examples" / "cir_neighbours" / "README.md").read_text(encoding="utf-8"),
        (ROOT / "cir_plugins" / "cli" / "new_plugin.py").read_text(encoding="utf-8"),
        render("acme")["README.md"],
    ]
    for text in texts:
        assert "pip install -e '.[test]'" in text
    guide = texts[0]
    assert guide.index("pip install ./cir-plugins") < guide.index("cir new-plugin acme")
    example = tomllib.loads((ROOT / "examples" / "cir_neighbours" / "pyproject.toml").read_text())
    assert "test" in example["project"]["optional-dependencies"]


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is not installed")
def test_the_project_is_clean_for_the_linter(tmp_path: Path) -> None:
    write_plugin("my_own", tmp_path / "made", Registry.load({}))
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            ["ruff", *arguments, "--no-cache", str(tmp_path / "made")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_every_template_is_written() -> None:
    folder = ROOT / "cir_plugins" / "plugins" / "template"
    assert len(render("acme")) == len(list(folder.glob("*.j2")))


@pytest.mark.parametrize("name", ["", "My", "my-plugin", "1st", "class", "_x", "é", "a b", "../x"])
def test_a_name_must_be_a_packages(name: str, tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="accepted: a Python name in lower case"):
        write_plugin(name, tmp_path / "made", Registry.load({}))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["builtin", "json", "torch"])
def test_a_name_must_be_free(name: str, tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=f"the name '{name}' is taken by an installed"):
        write_plugin(name, tmp_path / "made", Registry.load({}))


@pytest.mark.parametrize("folder", ["/proc/x", "/dev/null/x", "/" + "x" * 300])
def test_a_folder_must_be_writable(folder: str) -> None:
    """What the system positives differs by place (/proc has no such file): never a traceback."""
    with pytest.raises(CIRError, match=f"{folder} cannot be written: "):
        write_plugin("acme", Path(folder), Registry.load({}))


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match="exists; accepted: a folder that does not exist yet"):
        write_plugin("acme", tmp_path, Registry.load({}))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("one_thread")
def test_the_search_backend_serves_an_index(tmp_path: Path) -> None:
    """The check has made-up vectors; a shop's pictures come and go between two commands."""
    write_plugin("acme", tmp_path / "acme", Registry.load({}))
    project = installed(tmp_path / "acme", "acme")
    images = tmp_path / "images"
    names = draw_pictures(images, 12)
    index = (
        "index",
        "image_text_sum",
        "--set",
        "backbone=tiny_clip",
        "--images",
        "images",
        "--out",
    )
    query = ("--reference", names[1], "--text", "is red", "-k", "4", "--json")
    for backend in ("exact", "acme_index"):
        made = run_cir(*index, backend, "--backend", backend, plugins=project, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    (images / names[0]).unlink()
    draw_pictures(images, 1, first=20)
    found = []
    for backend in ("exact", "acme_index"):
        made = run_cir(*index, backend, "--backend", backend, plugins=project, cwd=tmp_path)
        assert "1 new, 0 changed, 1 removed" in made.stdout, made.stderr
        done = run_cir("search", backend, *query, f"{backend}.json", plugins=project, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / f"{backend}.json").read_text()))
    assert found[0] == found[1]
    assert len(found[0]["hits"]) == 4
