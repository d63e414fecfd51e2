from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import cir_plugins.encoding.cache as cache_module
import cir_plugins.encoding.features as encode_module
from cir_plugins.data.images import open_image
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import (
    DiskStore,
    Encoding,
    FeatureStore,
    feature_chunks,
    training_store,
)
from cir_plugins.encoding.fingerprint import backbone_fingerprint, constant_tensors
from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import trained_state
from tests.fakes import CPU, FakeBackbone, make_trainer, shrink, write_pictures


class Two(NamedTuple):
    """Features of two kinds."""

    states: Tensor
    sums: Tensor


class TwoKinds(FakeBackbone):
    """Features as a named tuple."""

    def features(self, images: Tensor) -> Any:
        """States and the pixels' rounded sums."""
        return Two(super().features(images), images.sum(dim=(1, 2, 3)).round().long())


def cached(folder: Path, dtype: str = "same") -> Encoding:
    return replace(CPU, cache=FeatureCache(folder, dtype))


def pictures(folder: Path, count: int = 17) -> list[Path]:
    return list(write_pictures(folder, [str(n) for n in range(count)]).values())


def whole(backbone: Any, paths: list[Path], encoding: Encoding) -> Any:
    return torch.cat([part for _, part in feature_chunks(backbone, paths, encoding, "x")])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Images decoded so far."""
    seen: list[Path] = []

    def counted(path: Path) -> Any:
        seen.append(path)
        return open_image(path)

    monkeypatch.setattr(encode_module, "open_image", counted)
    return seen


def test_a_second_run_decodes_nothing_and_gets_the_same_bits(
    tmp_path: Path, opened: list[Path]
) -> None:
    paths = pictures(tmp_path / "images")
    expected = whole(FakeBackbone(frozen=True), paths, CPU)
    opened.clear()
    first = whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    assert opened == paths
    second = whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    assert opened == paths
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert not list((tmp_path / "c").rglob("*.part"))


def test_a_chunk_with_one_new_image_is_encoded_whole(tmp_path: Path, opened: list[Path]) -> None:
    paths = pictures(tmp_path / "images")
    backbone = FakeBackbone(frozen=True)
    whole(backbone, paths[:16], cached(tmp_path / "c"))
    opened.clear()
    assert torch.equal(whole(backbone, paths, cached(tmp_path / "c")), whole(backbone, paths, CPU))
    assert opened[:3] == paths[14:]  # the chunks are of seven
    assert len(opened) == 3 + len(paths)


def test_a_changed_image_is_encoded_anew_and_a_copy_is_not(
    tmp_path: Path, opened: list[Path]
) -> None:
    paths = pictures(tmp_path / "images", 7)
    backbone = FakeBackbone(frozen=True)
    whole(backbone, paths, cached(tmp_path / "c"))
    opened.clear()
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[3].read_bytes())
    whole(backbone, [copy], cached(tmp_path / "c"))
    assert not opened
    paths[0].write_bytes(paths[1].read_bytes() + b"\0")
    found = whole(backbone, paths, cached(tmp_path / "c"))
    assert opened == paths
    assert torch.equal(found, whole(backbone, paths, CPU))


def test_the_second_run_does_not_read_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pictures(tmp_path / "images", 3)
    names = FeatureCache(tmp_path / "c").contents(paths)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert FeatureCache(tmp_path / "c").contents(paths) == names


def test_the_key_knows_weights_transform_and_precision() -> None:
    def key(backbone: Any, extra: str = "") -> str:
        return backbone_fingerprint(backbone, constant_tensors(backbone), extra)

    usual = key(FakeBackbone(frozen=True))
    assert key(FakeBackbone(frozen=True)) == usual
    assert key(FakeBackbone(frozen=True, seed=1)) != usual
    assert key(FakeBackbone(frozen=True), "torch.bfloat16") != usual
    other = FakeBackbone(frozen=True)
    other.preprocess = lambda image: shrink(image) * 2
    assert key(other) != usual


@pytest.mark.parametrize("value", [False, 3, 0.5, "cls", (1, 2), torch.float16])
def test_the_key_knows_options_that_are_plain_attributes(value: Any) -> None:
    """Features of one option were read for another where neither weights nor repr tell it."""
    found = set()
    for inside in (False, True):
        backbone = FakeBackbone(frozen=True)
        found.add(backbone_fingerprint(backbone, constant_tensors(backbone), ""))
        (backbone.dropout if inside else backbone).patches = value
        found.add(backbone_fingerprint(backbone, constant_tensors(backbone), ""))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("_seen", 1), ("training", False), ("gradient_checkpointing", True)],
        *[("folder", "/tmp/a"), ("name_or_path", "a"), ("note", object())],
    ],
)
def test_the_key_is_the_same_wherever_and_however_often_it_is_made(name: str, value: Any) -> None:
    backbone = FakeBackbone(frozen=True)
    before = backbone_fingerprint(backbone, constant_tensors(backbone), "")
    setattr(backbone, name, value)
    assert backbone_fingerprint(backbone, constant_tensors(backbone), "") == before


def test_the_key_is_the_same_in_every_process() -> None:
    code = (
        "from cir_plugins.encoding.fingerprint import backbone_fingerprint, constant_tensors\n"
        "from tests.fakes import FakeBackbone\n"
        "backbone = FakeBackbone(frozen=True)\n"
        "backbone.patches = ('a', 0.1, True)\n"
        "print(backbone_fingerprint(backbone, constant_tensors(backbone), ''))\n"
    )
    root = Path(__file__).parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_an_option_that_changes_changes_the_shelf(tmp_path: Path) -> None:
    class Cut(FakeBackbone):
        width = 16

        def features(self, images: Tensor) -> Tensor:
            return super().features(images)[:, : self.width]

    paths = pictures(tmp_path / "images", 7)
    backbone, encoding = Cut(frozen=True), cached(tmp_path / "c")
    assert whole(backbone, paths, encoding).shape == (7, 16)
    backbone.width = 8
    assert whole(backbone, paths, encoding).shape == (7, 8)


def test_training_what_is_above_the_tower_leaves_the_key() -> None:
    backbone = FakeBackbone(frozen=True)
    assert [name for name, _ in constant_tensors(backbone)] == ["tower"]
    trained = FakeBackbone()
    assert len(constant_tensors(trained)) == len(list(trained.parameters()))


def test_weights_that_change_in_place_change_the_shelf(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 7)
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    before = whole(backbone, paths, encoding)
    with torch.no_grad():
        backbone.tower.mul_(2)
    assert torch.equal(whole(backbone, paths, encoding), 2 * before)


def test_a_tower_in_training_is_not_cached_and_a_finished_one_is(
    tmp_path: Path, opened: list[Path]
) -> None:
    paths = pictures(tmp_path / "images", 3)
    encoding = cached(tmp_path / "c")
    for _ in range(2):
        whole(FakeBackbone(), paths, encoding)
    assert len(opened) == 6
    for _ in range(2):
        whole(FakeBackbone(), paths, replace(encoding, finished=True))
    assert len(opened) == 9


def test_named_tuples_and_half_precision_come_back_as_they_were(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 9)
    backbone = TwoKinds(frozen=True)
    exact = [features for _, features in feature_chunks(backbone, paths, CPU, "x")]
    for _ in range(2):  # computed, then read: the loss of the storage is in both
        half = cached(tmp_path / "c", "fp16")
        found = [features for _, features in feature_chunks(backbone, paths, half, "x")]
        for (states, sums), (own, own_sums) in zip(exact, found, strict=True):
            assert torch.equal(own, states.half().float())
            assert torch.equal(own_sums, sums)
            assert own_sums.dtype == torch.int64
    assert half.cache is not None
    shelf = half.cache.shelf(backbone, half.dtype, half.device)
    assert shelf.bytes_per_image == 16 * 2 + 8
    assert isinstance(found[0], Two)


def test_a_number_too_large_for_the_stored_dtype_is_refused(tmp_path: Path) -> None:
    """It became inf in the cache, and every score of the image NaN or inf, without a word."""
    paths = pictures(tmp_path / "images", 3)
    backbone = FakeBackbone(frozen=True)
    with torch.no_grad():
        backbone.tower.mul_(1e6)
    message = r"feature cache .*: features up to .* do not fit into float16, whose largest number"
    with pytest.raises(CIRError, match=message + r" is 6.55e\+04; accepted: .*_dtype=bf16 or same"):
        whole(backbone, paths, cached(tmp_path / "c", "fp16"))
    assert not list((tmp_path / "c").rglob("*.safetensors"))
    assert whole(backbone, paths, cached(tmp_path / "c", "bf16")).isfinite().all()
    with torch.no_grad():
        backbone.tower.fill_(float("inf"))  # what was no number stays none
    assert not whole(backbone, paths, cached(tmp_path / "c", "fp16")).isfinite().any()


def test_size_is_told_and_a_full_disk_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = pictures(tmp_path / "images", 9)
    with caplog.at_level(logging.WARNING):
        whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    assert "writing 9 images x 64 bytes = 0.0 MiB" in caplog.text
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(9, 9, 9 * 64 - 1))
    with pytest.raises(CIRError, match=r"needs 9 images x 64 bytes .* MiB are free; accepted:"):
        whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "full"))
    assert not list((tmp_path / "full").rglob("*.safetensors"))


def test_several_processes_fill_one_cache(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 20)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.encoding.test_cache import cached, whole\n"
        "from tests.fakes import FakeBackbone\n"
        "paths = [Path(line) for line in sys.argv[2:]]\n"
        "whole(FakeBackbone(frozen=True), paths, cached(Path(sys.argv[1])))\n"
    )
    arguments = [str(tmp_path / "c"), *map(str, paths)]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=root) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    assert torch.equal(whole(backbone, paths, encoding), whole(backbone, paths, CPU))
    assert encoding.cache is not None
    assert encoding.cache.shelf(backbone, CPU.dtype, CPU.device).images == 20


def test_training_images_stay_on_disk_where_memory_is_short(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 20)
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    memory = training_store(backbone, paths, encoding, 1, "none")
    disk = training_store(backbone, paths, encoding, 0, "none")
    assert type(memory) is FeatureStore
    assert type(disk) is DiskStore
    assert disk[torch.tensor([], dtype=torch.long)].shape == (0, 16)  # a process without rows
    index = torch.tensor([19, 0, 3])
    assert torch.equal(disk[index], whole(backbone, paths, CPU)[index])
    assert torch.equal(memory[index], disk[index])
    chunks = [part for _, part in disk.chunks(torch.arange(20), CPU)]
    assert torch.equal(torch.cat(chunks), whole(backbone, paths, CPU))


@pytest.mark.parametrize(
    ("frozen", "augment", "why"),
    [(False, "none", "the backbone's tower is trained"), (True, "flip", "train.augment is 'flip'")],
)
def test_why_a_cache_is_not_used_for_training_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, frozen: bool, augment: str, why: str
) -> None:
    encoding = cached(tmp_path / "c")
    assert training_store(FakeBackbone(frozen=frozen), [], encoding, 1, augment) is None
    assert f"feature cache not used for training: {why}" in caplog.text


@pytest.mark.parametrize("negatives", ["batch", "mined"])
def test_training_and_validation_agree_to_the_bit(tmp_path: Path, negatives: str) -> None:
    states, logs = [], []
    for name in ("plain", "cold", "warm"):
        trainer = make_trainer(
            tmp_path / name,
            tmp_path / "data",
            epochs=2,
            backbone={"frozen": True},
            cache=None if name == "plain" else FeatureCache(tmp_path / "c"),
            mining={"negatives": negatives},
        )
        lines = trainer.fit().lines
        logs.append([{k: v for k, v in line.items() if k != "seconds"} for line in lines])
        states.append(trained_state(trainer.method))
    assert logs[0] == logs[1] == logs[2]
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in states[0])
