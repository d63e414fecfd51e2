"""Files of runs and of suites' results, damaged: an output or one message that names the file."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import strategies as st

from cir_plugins.bench.page import Drawing
from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import holds, run
from tests.fuzz.values import ByteDamage, TreeDamage, as_json, byte_damages, tree_damages

text_damages = st.one_of(tree_damages, tree_damages, byte_damages)


def damaged(content: bytes, name: str, damage: TreeDamage | ByteDamage) -> bytes:
    """The content of a JSON, JSON lines or TOML file after a damage."""
    if isinstance(damage, ByteDamage):
        return damage.of(content)
    if name.endswith(".toml"):
        return as_toml(damage.of(tomllib.loads(content.decode())))
    if name.endswith(".jsonl"):
        lines = damage.of([json.loads(line) for line in content.splitlines()])
        lines = lines if isinstance(lines, list) else [lines]
        return b"".join(as_json(line) + b"\n" for line in lines)
    return as_json(damage.of(json.loads(content)))


def as_toml(tree: Any) -> bytes:
    """A tree as TOML; what TOML cannot hold is written as text that is none."""
    try:
        return tomli_w.dumps(tree).encode("utf-8", "surrogatepass")
    except (TypeError, AttributeError, ValueError):
        return repr(tree)[:5000].encode("utf-8", "surrogatepass")


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which take a second each."""
    monkeypatch.setattr(Drawing, "draw", lambda self, name, draw, default: default)


@profiles
@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize("command", ["eval", "report", "resume", "from", "encode"])
@pytest.mark.parametrize("name", ["run.json", "config.toml"])
def test_commands_on_damaged_run_folders(
    name: str,
    command: str,
    times: int,
    trained: Path,
    interrupted: Path,
    data: Mapping[str, Path],
    folders: Folders,
) -> None:
    source = interrupted if command == "resume" else trained

    def property_holds(damage: TreeDamage | ByteDamage) -> None:
        folder = folders()
        copy = folder / "run"
        shutil.copytree(source, copy)
        (copy / name).write_bytes(damaged((source / name).read_bytes(), name, damage))
        out = folder / "out"
        commands: dict[str, Sequence[str | Path]] = {
            "eval": ("eval", copy, "--device", "cpu"),
            "report": ("report", copy, "--out", out),
            "resume": ("train", "--out", copy, "--resume", "--dry-run"),
            "from": ("train", "dqe", "--from", copy, "--out", out, "--dry-run"),
            "encode": ("encode", copy, "--images", data["fashioniq"] / "images", "--out", out),
        }
        holds(run(*commands[command], writes=[out]), 1)  # an alarm of the report

    explore((4 if command == "report" else 8) * times, property_holds, text_damages)


@profiles
@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json"])
def test_report_of_damaged_metrics(name: str, times: int, trained: Path, folders: Folders) -> None:
    """A page, or one message that names the file."""

    def property_holds(damage: TreeDamage | ByteDamage) -> None:
        folder = folders()
        copy = folder / "run"
        shutil.copytree(trained, copy)
        (copy / name).write_bytes(damaged((trained / name).read_bytes(), name, damage))
        out = folder / "out"
        output = holds(run("report", copy, "--out", out, writes=[out]), 1)
        if output.code == 2:
            assert str(copy / name) in output.err

    explore((10 if name == "metrics.jsonl" else 3) * times, property_holds, text_damages)


SUITE = """
name = "small"
description = "two rows"
seeds = [0]
show = ["recall@5"]

[data]
name = "fashioniq"
splits = ["val"]

[defaults.backbone]
name = "fake"

[defaults.run]
workers = 0
device = "cpu"

[[rows]]
method = "image_only"

[[rows]]
label = "both"
compare = "image_only"

[rows.method]
name = "image_text_sum"
text_weight = 0.5
"""


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "small.toml"
    file.write_text(SUITE)
    return file


@pytest.fixture(scope="module")
def results(
    suite_file: Path, data: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Results of the suite; read only."""
    out = tmp_path_factory.mktemp("results") / "small"
    output = run("bench", suite_file, "--root", data["fashioniq"], "--out", out, writes=[out])
    assert output.code == 0, output.err
    return out


@profiles
def test_resumed_suites_with_damaged_files(
    times: int,
    results: Path,
    suite_file: Path,
    data: Mapping[str, Path],
    folders: Folders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows are those of the undamaged files, or there is a message; nothing is invented."""
    monkeypatch.setattr("cir_plugins.bench.page.write_page", lambda result, published: "page")
    files = [file for file in sorted(results.rglob("*")) if file.is_file()]
    files = [file for file in files if file.suffix in (".json", ".toml", ".npz", ".safetensors")]
    rows = _measures(results)

    def property_holds(number: int, damage: TreeDamage | ByteDamage) -> None:
        copy = folders() / "results"
        shutil.copytree(results, copy)
        file = copy / files[number % len(files)].relative_to(results)
        if isinstance(damage, ByteDamage):
            file.write_bytes(damage.of(file.read_bytes()))
        elif file.suffix in (".json", ".toml"):
            file.write_bytes(damaged(file.read_bytes(), file.name, damage))
        output = run(
            *("bench", suite_file, "--root", data["fashioniq"], "--out", copy, "--resume"),
            writes=[copy],
        )
        if holds(output, 1).code == 0:
            assert _measures(copy) == rows

    explore(12 * times, property_holds, st.integers(0, 40), text_damages)


def _measures(folder: Path) -> list[Any]:
    document = json.loads((folder / "results.json").read_text())
    return [[row["label"], row["seed"], row["splits"]] for row in document["rows"]]


@profiles
def test_drawn_data_with_a_damaged_note(
    times: int, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``data.json`` beside data that a suite has drawn."""
    note = as_json({"garments": {"images": 20, "seed": 0}})
    file = tmp_path_factory.mktemp("drawn") / "drawn.toml"
    file.write_text(f"{SUITE}\n[make.garments]\nimages = 20\nseed = 0\n")

    def property_holds(damage: TreeDamage | ByteDamage) -> None:
        out = folders() / "results"
        (out / "data").mkdir(parents=True)
        (out / "data.json").write_bytes(damaged(note, "data.json", damage))
        holds(run("bench", file, "--out", out, writes=[out]), 1)

    explore(15 * times, property_holds, text_damages)
