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

import cir_plugins.encoding.store as store_module
from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import (
    DiskFeatures,
    TrainingFeatures,
    feature_batches,
    training_features,
)
from cir_plugins.encoding.fingerprint import backbone_fingerprint, constant_tensors
from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import trained_state
from tests.encoding.cached import cached, pictures, whole
from tests.fakes import CPU, FakeBackbone, make_trainer, shrink
from tests.places import ROOT


class Two(NamedTuple):
    """Features of two kinds."""

    states: Tensor
    sums: Tensor


class TwoKinds(FakeBackbone):
    """Features as a named tuple."""

    def features(self, images: Tensor) -> Any:
        """States and the pixels' rounded sums."""
        return Two(super().features(images), images.sum(dim=(1, 2, 3)).round().long())


def test_a_second_run_decodes_nothing(tmp_path: Path, opened: list[Path]) -> None:
    """Its features are those of the first run and of no cache, to the bit."""
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


def test_batch_with_one_new_image_is_encoded(tmp_path: Path, opened: list[Path]) -> None:
    paths = pictures(tmp_path / "images")
    backbone = FakeBackbone(frozen=True)
    whole(backbone, paths[:16], cached(tmp_path / "c"))
    opened.clear()
    assert torch.equal(whole(backbone, paths, cached(tmp_path / "c")), whole(backbone, paths, CPU))
    assert opened[:3] == paths[14:]  # the batches are of seven
    assert len(opened) == 3 + len(paths)


def test_a_changed_image_is_encoded_again(tmp_path: Path, opened: list[Path]) -> None:
    paths = pictures(tmp_path / "images", 7)
    backbone = FakeBackbone(frozen=True)
    whole(backbone, paths, cached(tmp_path / "c"))
    opened.clear()
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[3].read_bytes())
    whole(backbone, [copy], cached(tmp_path / "c"))
    assert not opened
    paths[0].write_bytes(paths[1].read_bytes() + b"\0")
    read_back = whole(backbone, paths, cached(tmp_path / "c"))
    assert opened == paths
    assert torch.equal(read_back, whole(backbone, paths, CPU))


def test_the_second_run_does_not_read_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pictures(tmp_path / "images", 3)
    names = FeatureCache(tmp_path / "c").contents(paths)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert FeatureCache(tmp_path / "c").contents(paths) == names


def test_fingerprint_covers_weights_transform_and_precision() -> None:
    def fingerprint(backbone: Any, extra: str = "") -> str:
        return backbone_fingerprint(backbone, constant_tensors(backbone), extra)

    usual = fingerprint(FakeBackbone(frozen=True))
    assert fingerprint(FakeBackbone(frozen=True)) == usual
    assert fingerprint(FakeBackbone(frozen=True, seed=1)) != usual
    assert fingerprint(FakeBackbone(frozen=True), "torch.bfloat16") != usual
    other = FakeBackbone(frozen=True)
    other.preprocess = lambda image: shrink(image) * 2
    assert fingerprint(other) != usual


@pytest.mark.parametrize("value", [False, 3, 0.5, "cls", (1, 2), torch.float16])
def test_fingerprint_covers_options_that_are_plain_attributes(value: Any) -> None:
    """Features of one option were read for another, which neither weights nor repr show."""
    fingerprints = set()
    for inside in (False, True):
        backbone = FakeBackbone(frozen=True)
        fingerprints.add(backbone_fingerprint(backbone, constant_tensors(backbone), ""))
        (backbone.dropout if inside else backbone).patches = value
        fingerprints.add(backbone_fingerprint(backbone, constant_tensors(backbone), ""))
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("_seen", 1), ("training", False), ("gradient_checkpointing", True)],
        *[("folder", "/tmp/a"), ("name_or_path", "a"), ("note", object())],
    ],
)
def test_fingerprint_ignores_private_and_training_attributes(name: str, value: Any) -> None:
    backbone = FakeBackbone(frozen=True)
    before = backbone_fingerprint(backbone, constant_tensors(backbone), "")
    setattr(backbone, name, value)
    assert backbone_fingerprint(backbone, constant_tensors(backbone), "") == before


def test_fingerprint_is_the_same_in_every_process() -> None:
    code = (
        "from cir_plugins.encoding.fingerprint import backbone_fingerprint, constant_tensors\n"
        "from tests.fakes import FakeBackbone\n"
        "backbone = FakeBackbone(frozen=True)\n"
        "backbone.patches = ('a', 0.1, True)\n"
        "print(backbone_fingerprint(backbone, constant_tensors(backbone), ''))\n"
    )
    fingerprints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(fingerprints) == 1


def test_a_changed_option_changes_the_store(tmp_path: Path) -> None:
    class Cut(FakeBackbone):
        width = 16

        def features(self, images: Tensor) -> Tensor:
            return super().features(images)[:, : self.width]

    paths = pictures(tmp_path / "images", 7)
    backbone, encoding = Cut(frozen=True), cached(tmp_path / "c")
    assert whole(backbone, paths, encoding).shape == (7, 16)
    backbone.width = 8
    assert whole(backbone, paths, encoding).shape == (7, 8)


def test_fingerprint_ignores_weights_trained_above_the_tower() -> None:
    backbone = FakeBackbone(frozen=True)
    assert [name for name, _ in constant_tensors(backbone)] == ["tower"]
    trained = FakeBackbone()
    assert len(constant_tensors(trained)) == len(list(trained.parameters()))


def test_weights_changed_in_place_change_the_store(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 7)
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    before = whole(backbone, paths, encoding)
    with torch.no_grad():
        backbone.tower.mul_(2)
    assert torch.equal(whole(backbone, paths, encoding), 2 * before)


def test_a_tower_in_training_is_not_cached(tmp_path: Path, opened: list[Path]) -> None:
    paths = pictures(tmp_path / "images", 3)
    encoding = cached(tmp_path / "c")
    for _ in range(2):
        whole(FakeBackbone(), paths, encoding)
    assert len(opened) == 6
    for _ in range(2):
        whole(FakeBackbone(), paths, replace(encoding, finished=True))
    assert len(opened) == 9


def test_named_tuples_and_half_precision_survive(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 9)
    backbone = TwoKinds(frozen=True)
    exact = [features for _, features in feature_batches(backbone, paths, CPU, "x")]
    for _ in range(2):  # computed, then read: both are rounded as stored
        half = cached(tmp_path / "c", "fp16")
        read_back = [features for _, features in feature_batches(backbone, paths, half, "x")]
        for (states, sums), (rounded, same) in zip(exact, read_back, strict=True):
            assert torch.equal(rounded, states.half().float())
            assert torch.equal(same, sums)
            assert same.dtype == torch.int64
    assert half.cache is not None
    store = half.cache.store(backbone, half.dtype, half.device)
    assert store.bytes_per_image == 16 * 2 + 8
    assert isinstance(read_back[0], Two)


def test_number_beyond_the_stored_dtype_is_error(tmp_path: Path) -> None:
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


def test_a_full_disk_is_found_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = pictures(tmp_path / "images", 9)
    with caplog.at_level(logging.WARNING):
        whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    assert "writing 9 images x 64 bytes = 0.0 MiB" in caplog.text
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage(9, 9, 9 * 64 - 1))
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
    both = [subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    assert torch.equal(whole(backbone, paths, encoding), whole(backbone, paths, CPU))
    assert encoding.cache is not None
    assert encoding.cache.store(backbone, CPU.dtype, CPU.device).images == 20


def test_training_images_stay_on_disk_without_memory(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 20)
    backbone, encoding = FakeBackbone(frozen=True), cached(tmp_path / "c")
    memory = training_features(backbone, paths, encoding, 1, "none")
    disk = training_features(backbone, paths, encoding, 0, "none")
    assert type(memory) is TrainingFeatures
    assert type(disk) is DiskFeatures
    assert disk[torch.tensor([], dtype=torch.long)].shape == (0, 16)  # a process without rows
    index = torch.tensor([19, 0, 3])
    assert torch.equal(disk[index], whole(backbone, paths, CPU)[index])
    assert torch.equal(memory[index], disk[index])
    batches = [features for _, features in disk.batches(torch.arange(20), CPU)]
    assert torch.equal(torch.cat(batches), whole(backbone, paths, CPU))


@pytest.mark.parametrize(
    ("frozen", "augment", "why"),
    [(False, "none", "the backbone's tower is trained"), (True, "flip", "train.augment is 'flip'")],
)
def test_an_unused_cache_is_logged_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, frozen: bool, augment: str, why: str
) -> None:
    encoding = cached(tmp_path / "c")
    assert training_features(FakeBackbone(frozen=frozen), [], encoding, 1, augment) is None
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
