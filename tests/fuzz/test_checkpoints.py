"""Checkpoints, feature shards and encoded shards, damaged: refused, or the undamaged result."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from safetensors import safe_open

from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import load_state, save_state
from tests.command import Output
from tests.fuzz.conftest import Folders
from tests.fuzz.profiles import explore, profiles
from tests.fuzz.sandbox import holds, run
from tests.fuzz.values import TreeDamage, binary_damages, tree_damages

_SAFETENSORS_DTYPES = ("F32", "F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "X")


@dataclass(frozen=True)
class HeaderDamage:
    """A change of the header of a safetensors file, its length adjusted.

    Attributes:
        kind: ``dtype``, ``shape``, ``name``, ``swap`` (of two tensors' places), ``tree``.
        number: Which tensor.
        dtype: Which dtype.
        tree: A change anywhere in the header, or in one of the JSON texts in its metadata.
    """

    kind: str
    number: int
    dtype: str
    tree: TreeDamage

    def of(self, content: bytes) -> bytes:
        """The changed file."""
        if len(content) < 8:
            return content
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        header = self._changed(header)
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    def _changed(self, header: dict[str, Any]) -> Any:
        metadata = header.get("__metadata__", {})
        names = [name for name in header if name != "__metadata__"]
        if self.kind == "tree":
            return self.tree.of(header)
        if self.kind == "metadata":
            name = sorted(metadata)[self.number % len(metadata)]
            try:
                text = json.dumps(self.tree.of(json.loads(metadata[name])))
            except ValueError:
                text = "1" * 5000
            return {**header, "__metadata__": {**metadata, name: text}}
        name, other = (names[(self.number + step) % len(names)] for step in (0, 1))
        tensor = header[name]
        if self.kind == "dtype":
            tensor["dtype"] = self.dtype
        elif self.kind == "shape":
            tensor["shape"] = [*tensor["shape"], 1][:: 1 if self.number % 2 else -1]
        elif self.kind == "name":
            header[f"{name}x"] = header.pop(name)
        else:
            header[name], header[other] = header[other], header[name]
        return header


header_damages = st.builds(
    HeaderDamage,
    st.sampled_from(["dtype", "shape", "name", "swap", "tree", "metadata", "metadata"]),
    st.integers(0, 40),
    st.sampled_from(_SAFETENSORS_DTYPES),
    tree_damages,
)
damages = st.one_of(binary_damages, header_damages)


def contents(file: Path) -> dict[str, bytes]:
    """The bytes of each tensor of a safetensors file."""
    with safe_open(file, framework="np") as tensors:
        return {name: tensors.get_tensor(name).tobytes() for name in tensors.keys()}  # noqa: SIM118


def measures(output: Output, report: Path) -> Any:
    assert output.code == 0, output.err
    return json.loads(report.read_text())


def evaluate(run_folder: Path, folder: Path, *words: str | Path) -> tuple[Output, Path]:
    report = folder / "report.json"
    output = run("eval", run_folder, "--json", report, *words, writes=[folder])
    return output, report


def copied(source: Path, copy: Path) -> Path:
    shutil.copytree(source, copy, symlinks=True)
    return copy


@profiles
def test_damaged_weights_are_refused_or_equal(times: int, trained: Path, folders: Folders) -> None:
    expected = measures(*evaluate(trained, folders()))

    def property_holds(damage: Any) -> None:
        folder = folders()
        copy = copied(trained, folder / "run")
        file = copy / "best.safetensors"
        file.write_bytes(damage.of(file.read_bytes()))
        output, report = evaluate(copy, folder)
        if holds(output).code == 0:
            assert measures(output, report) == expected
        else:
            assert str(file) in output.err

    explore(25 * times, property_holds, damages)


@profiles
def test_resuming_a_damaged_checkpoint(
    times: int, trained: Path, interrupted: Path, folders: Folders
) -> None:
    """The weights of a run that was never interrupted, or a message."""
    weights = contents(trained / "best.safetensors")
    results = json.loads((trained / "results.json").read_text())["splits"]

    def property_holds(damage: Any) -> None:
        copy = copied(interrupted, folders() / "run")
        file = copy / "checkpoint.safetensors"
        file.write_bytes(damage.of(file.read_bytes()))
        output = run("train", "--out", copy, "--resume", writes=[copy])
        if holds(output).code == 0:
            assert contents(copy / "best.safetensors") == weights
            assert json.loads((copy / "results.json").read_text())["splits"] == results
        else:
            assert str(file) in output.err

    explore(25 * times, property_holds, damages)


def test_undamaged_checkpoints_give_the_same_weights(
    trained: Path, interrupted: Path, folders: Folders
) -> None:
    """What the properties compare with is not empty."""
    copy = copied(interrupted, folders() / "run")
    assert run("train", "--out", copy, "--resume", writes=[copy]).code == 0
    assert contents(copy / "best.safetensors") == contents(trained / "best.safetensors")


@profiles
def test_checkpoints_of_another_state(times: int, interrupted: Path, folders: Folders) -> None:
    """Written whole, with right checksums, by something that is not this version's trainer."""
    state = load_state(interrupted / "checkpoint.safetensors")

    def property_holds(damage: TreeDamage) -> None:
        copy = copied(interrupted, folders() / "run")
        file = copy / "checkpoint.safetensors"
        try:
            save_state(file, damage.of(state))
        except (ValueError, CIRError):  # no state that can be written
            return
        output = run("train", "--out", copy, "--resume", writes=[copy])
        if holds(output).code:
            assert str(copy) in output.err

    explore(25 * times, property_holds, tree_damages)


@profiles
def test_damaged_runs_of_a_warm_start(times: int, trained: Path, folders: Folders) -> None:
    """``cir train --from`` of a run whose weights are damaged starts nothing."""

    def property_holds(damage: Any) -> None:
        folder = folders()
        copy = copied(trained, folder / "run")
        content = (trained / "best.safetensors").read_bytes()
        changed = damage.of(content)
        (copy / "best.safetensors").write_bytes(changed)
        out = folder / "out"
        output = run(
            *("train", "--from", copy, "--out", out, "--set", "train.epochs=1"), writes=[out]
        )
        if holds(output).code == 0:
            assert contents(copy / "best.safetensors") == contents(trained / "best.safetensors")
        else:
            assert not out.exists()

    explore(6 * times, property_holds, damages)


@pytest.fixture(scope="module")
def frozen(data: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose features are kept on disk."""
    out = tmp_path_factory.mktemp("frozen") / "run"
    output = run(
        *("train", "image_text_sum", "--data", "fashioniq", "--root", data["fashioniq"]),
        *("--out", out, "--device", "cpu", "--set", "backbone=fake"),
        *("--set", "backbone.frozen=true", "--set", "run.workers=0"),
        writes=[out],
    )
    assert output.code == 0, output.err
    return out


@profiles
def test_damaged_features_are_computed_again(
    times: int, frozen: Path, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A feature cache never changes a number."""
    place = tmp_path_factory.mktemp("cache")
    cache = place / "features"
    expected = measures(*evaluate(frozen, place, "--feature-cache", cache))
    files = sorted(file.relative_to(cache) for file in cache.rglob("*") if file.is_file())
    assert any(file.suffix == ".safetensors" for file in files)

    def property_holds(damage: Any, number: int) -> None:
        folder = folders()
        copy = copied(cache, folder / "features")
        file = copy / files[number % len(files)]
        if file.suffix != ".safetensors" and isinstance(damage, HeaderDamage):
            return
        file.write_bytes(damage.of(file.read_bytes()))
        output, report = evaluate(frozen, folder, "--feature-cache", copy)
        holds(output)
        if output.code == 0:
            assert measures(output, report) == expected

    explore(25 * times, property_holds, damages, st.integers(0, 10))


@profiles
@pytest.mark.parametrize("what", ["targets", "features"])
def test_damaged_shards_are_encoded_again(
    what: str,
    times: int,
    frozen: Path,
    data: Mapping[str, Path],
    folders: Folders,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """``cir encode`` a second time leaves what the first one wrote, or says why not."""
    out = tmp_path_factory.mktemp("encoded") / what

    def encode(folder: Path) -> Output:
        return run(
            *("encode", frozen, "--images", data["fashioniq"] / "images", "--out", folder),
            *("--what", what, "--shard-size", "5"),
            writes=[folder],
        )

    assert encode(out).code == 0
    files = sorted(file.name for file in out.iterdir())
    expected = {name: contents(out / name) for name in files if name.endswith("tensors")}
    manifest = json.loads((out / "manifest.json").read_text())

    def property_holds(damage: Any, number: int) -> None:
        copy = copied(out, folders() / "encoded")
        file = copy / files[number % len(files)]
        if file.suffix != ".safetensors" and isinstance(damage, HeaderDamage):
            return
        file.write_bytes(damage.of(file.read_bytes()))
        if holds(encode(copy)).code == 0:
            assert {name: contents(copy / name) for name in expected} == expected
            assert json.loads((copy / "manifest.json").read_text()) == manifest

    explore(25 * times, property_holds, damages, st.integers(0, 10))
