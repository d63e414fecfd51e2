from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cir_plugins.data.images import open_image
from cir_plugins.distributed.rendezvous import rank_and_world_size
from cir_plugins.encoding.export import (
    ExportSettings,
    encode_images,
    images_of,
    shard_path,
    spread_over_gpus,
)
from cir_plugins.encoding.shards import Shard
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from tests.fakes import CPU, FakeBackbone, components, write_pictures


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_pictures(tmp_path / "images" / "deep", [f"{n:02d}" for n in range(11)])
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return images_of(tmp_path / "images")


def a_method(seed: int = 0) -> Method:
    return Method(components(FakeBackbone(targets=3, seed=seed)))


def rows(out: Path, shards: int) -> tuple[list[str], Tensor]:
    """All names and values, shard by shard."""
    read = [Shard(shard_path(out, number)) for number in range(shards)]
    return [n for shard in read for n in shard.names], torch.cat([s.whole()[0] for s in read])


def test_image_ids_are_paths_in_the_folder(files: dict[str, Path]) -> None:
    assert list(files) == [f"deep/{n:02d}.png" for n in range(11)]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"no images in folder .*; accepted: \.bmp"):
        images_of(tmp_path)


@pytest.mark.parametrize("what", ["targets", "features"])
def test_shards_hold_what_the_method_gives(
    files: dict[str, Path], tmp_path: Path, what: Any
) -> None:
    method = a_method()
    manifest = encode_images(
        method, files, tmp_path / "out", CPU, ExportSettings(what, shard_size=4)
    )
    assert manifest is not None
    content = json.loads(manifest.read_text())
    assert [shard["images"] for shard in content["shards"]] == [4, 4, 3]
    assert (content["images"], content["broken"], content["what"]) == (11, {}, what)
    pixels = torch.stack([method.backbone.preprocess(open_image(path)) for path in files.values()])
    features = method.backbone.features(pixels)
    expected = features if what == "features" else method.encode_gallery(features)
    names, matrix = rows(tmp_path / "out", 3)
    assert names == list(files)
    assert torch.allclose(matrix, expected.detach(), atol=1e-6)


def test_half_precision_is_stored_as_such(files: dict[str, Path], tmp_path: Path) -> None:
    encode_images(a_method(), files, tmp_path / "out", CPU, ExportSettings(dtype="bf16"))
    assert rows(tmp_path / "out", 1)[1].dtype == torch.bfloat16


def test_number_beyond_half_precision_is_error(files: dict[str, Path], tmp_path: Path) -> None:
    method = a_method()
    with torch.no_grad():
        method.backbone.tower.mul_(1e6)
    with pytest.raises(CIRError, match=r"shard-000000.* fit into float16.*; accepted: --dtype bf"):
        encode_images(
            method, files, tmp_path / "out", CPU, ExportSettings("features", dtype="fp16")
        )
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_images_that_changed_are_encoded_again(files: dict[str, Path], tmp_path: Path) -> None:
    """Their names are what they were: the shard of before was taken for theirs."""
    out, settings = tmp_path / "out", ExportSettings(shard_size=4)
    encode_images(a_method(), files, out, CPU, settings)
    times = {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    files["deep/05.png"].write_bytes(files["deep/00.png"].read_bytes())
    assert encode_images(a_method(), files, out, CPU, settings) == out / "manifest.json"
    assert times == {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    encode_images(a_method(), files, tmp_path / "new", CPU, settings)
    assert torch.equal(rows(out, 3)[1], rows(tmp_path / "new", 3)[1])


def test_other_images_of_the_same_names_are_encoded(files: dict[str, Path], tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    encode_images(a_method(), files, out, CPU, ExportSettings())
    write_pictures(other / "deep", [f"{n:02d}" for n in range(11)], seed=1)
    encode_images(a_method(), images_of(other), out, CPU, ExportSettings())
    encode_images(a_method(), images_of(other), tmp_path / "new", CPU, ExportSettings())
    assert torch.equal(rows(out, 1)[1], rows(tmp_path / "new", 1)[1])


def test_images_that_were_only_copied_keep_their_shards(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode_images(a_method(), files, out, CPU, ExportSettings())
    written = shard_path(out, 0).stat().st_mtime_ns
    for path in files.values():
        os.utime(path, ns=(1, 1))
    encode_images(a_method(), files, out, CPU, ExportSettings())
    assert shard_path(out, 0).stat().st_mtime_ns == written


def test_manifest_waits_for_shards_of_other_processes(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out, settings = tmp_path / "out", ExportSettings(shard_size=4, world_size=2)
    encode_images(a_method(), files, out, CPU, ExportSettings(shard_size=4))
    for name in ("deep/00.png", "deep/05.png"):
        files[name].write_bytes(files["deep/10.png"].read_bytes())
    assert encode_images(a_method(), files, out, CPU, settings) is None
    assert not (out / "manifest.json").exists()
    assert encode_images(a_method(), files, out, CPU, replace(settings, rank=1)) is not None


def test_a_method_of_other_options_is_another_one(files: dict[str, Path], tmp_path: Path) -> None:
    method = a_method()
    encode_images(method, files, tmp_path / "out", CPU, ExportSettings())
    method.norm_scale = 2.0  # type: ignore[assignment]
    with pytest.raises(CIRError, match="written for other images, weights or settings"):
        encode_images(method, files, tmp_path / "out", CPU, ExportSettings())


def test_finished_shards_are_not_written_again(files: dict[str, Path], tmp_path: Path) -> None:
    out, settings = tmp_path / "out", ExportSettings(shard_size=4)
    encode_images(a_method(), files, out, CPU, settings)
    first = rows(out, 3)[1]
    times = {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    shard_path(out, 1).unlink()
    encode_images(a_method(), files, out, CPU, settings)
    assert times == {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    assert torch.equal(rows(out, 3)[1], first)


@pytest.mark.parametrize("byte", [3, 20, 300, -1])
def test_a_damaged_shard_is_encoded_again(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, byte: int
) -> None:
    """It stayed, and the manifest written over it."""
    out, settings = tmp_path / "out", ExportSettings(shard_size=4)
    encode_images(a_method(), files, out, CPU, settings)
    expected, manifest = rows(out, 3), (out / "manifest.json").read_bytes()
    times = {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    damaged = bytearray(shard_path(out, 1).read_bytes())
    damaged[byte] ^= 1
    shard_path(out, 1).write_bytes(damaged)
    assert encode_images(a_method(), files, out, CPU, settings) == out / "manifest.json"
    assert f"shard {shard_path(out, 1)} is damaged" in caplog.text
    assert "its images are encoded again" in caplog.text
    assert times == {number: shard_path(out, number).stat().st_mtime_ns for number in (0, 2)}
    assert rows(out, 3)[0] == expected[0]
    assert torch.equal(rows(out, 3)[1], expected[1])
    assert (out / "manifest.json").read_bytes() == manifest


def test_a_shard_of_another_format_is_an_error(files: dict[str, Path], tmp_path: Path) -> None:
    """What another version wrote is not overwritten."""
    encode_images(a_method(), files, tmp_path / "out", CPU, ExportSettings())
    save_file({"part0": torch.ones(1)}, shard_path(tmp_path / "out", 0), {"shard": '{"format": 1}'})
    with pytest.raises(CIRError, match=r"has format 1; accepted: 2, or another --out"):
        encode_images(a_method(), files, tmp_path / "out", CPU, ExportSettings())


def test_a_shard_whose_images_are_all_broken(files: dict[str, Path], tmp_path: Path) -> None:
    for path in files.values():
        path.write_bytes(b"\x89PNG, but not for long")
    settings = ExportSettings(skip_broken=True, shard_size=6)
    manifest = encode_images(a_method(), files, tmp_path / "out", CPU, settings)
    assert manifest is not None
    assert len(json.loads(manifest.read_text())["broken"]) == 11


def test_two_ranks_share_the_shards(files: dict[str, Path], tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    encode_images(a_method(), files, alone, CPU, ExportSettings(shard_size=4))
    settings = ExportSettings(shard_size=4, world_size=2)
    assert encode_images(a_method(), files, shared, CPU, replace(settings, rank=1)) is None
    assert [path.name for path in shared.glob("*.safetensors")] == ["shard-000001.safetensors"]
    assert encode_images(a_method(), files, shared, CPU, settings) == shared / "manifest.json"
    assert torch.equal(rows(alone, 3)[1], rows(shared, 3)[1])
    assert (alone / "manifest.json").read_text() == (shared / "manifest.json").read_text()


def test_shards_of_other_weights_are_errors(files: dict[str, Path], tmp_path: Path) -> None:
    encode_images(a_method(), files, tmp_path / "out", CPU, ExportSettings())
    with pytest.raises(CIRError, match="written for other images, weights or settings; accepted"):
        encode_images(a_method(seed=1), files, tmp_path / "out", CPU, ExportSettings())


def test_a_broken_image_is_named_or_left_out(files: dict[str, Path], tmp_path: Path) -> None:
    files["deep/05.png"].write_bytes(b"\x89PNG, but not for long")
    with pytest.raises(CIRError, match=r"image .*05\.png .*\n?.*\nleave such .* --skip-broken"):
        encode_images(a_method(), files, tmp_path / "out", CPU, ExportSettings())
    manifest = encode_images(
        a_method(), files, tmp_path / "out", CPU, ExportSettings(skip_broken=True)
    )
    assert manifest is not None
    content = json.loads(manifest.read_text())
    assert content["images"] == 10
    assert list(content["broken"]) == ["deep/05.png"]
    assert rows(tmp_path / "out", 1)[0] == [name for name in files if "05" not in name]


@pytest.mark.parametrize(("rank", "world_size"), [("2", "2"), ("x", "2")])
def test_an_impossible_rank_is_an_error(
    monkeypatch: pytest.MonkeyPatch, rank: str, world_size: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(CIRError, match="accepted: 0 <= RANK < WORLD_SIZE"):
        rank_and_world_size()


@pytest.mark.parametrize(
    ("gpus", "local", "devices"), [(0, "1", []), (1, "1", []), (4, "2", [2]), (2, "3", [1])]
)
def test_processes_take_the_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, gpus: int, local: str, devices: list[int]
) -> None:
    selected: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    spread_over_gpus()
    assert selected == devices
