from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cir_plugins.encoding.cache import FeatureCache
from cir_plugins.encoding.features import (
    training_features,
)
from cir_plugins.encoding.shards import Shard
from tests.encoding.cached import cached, pictures, whole
from tests.fakes import CPU, FakeBackbone


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("byte", [3, 20, 90, 300, -1, -100])
def test_a_damaged_shard_is_computed_again(
    tmp_path: Path, opened: list[Path], caplog: pytest.LogCaptureFixture, byte: int
) -> None:
    """One bit of its header, names or features gave other results without a word."""
    paths = pictures(tmp_path / "images")
    expected = whole(FakeBackbone(frozen=True), paths, CPU)
    whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    (shard,) = shards_of(tmp_path / "c")
    flip(shard, byte)
    opened.clear()
    again = whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c"))
    assert f"shard {shard} is damaged" in caplog.text
    assert "its features are computed again" in caplog.text
    assert torch.equal(again, expected)
    assert opened == paths
    assert not shard.exists()
    caplog.clear()
    assert torch.equal(whole(FakeBackbone(frozen=True), paths, cached(tmp_path / "c")), expected)
    assert opened == paths
    assert "damaged" not in caplog.text


def test_only_the_damaged_shard_is_computed_again(tmp_path: Path, opened: list[Path]) -> None:
    """The damage is met in the middle of reading: batches before and after stay as they are."""
    paths = pictures(tmp_path / "images", 28)
    backbone = FakeBackbone(frozen=True)
    expected = whole(backbone, paths, CPU)
    for last in (7, 14, 28):  # a shard each
        whole(backbone, paths[:last], cached(tmp_path / "c"))
    shards = {Shard(path).names[0]: path for path in shards_of(tmp_path / "c")}
    names = FeatureCache(tmp_path / "c").contents(paths)
    flip(shards[names[7]], -1)
    opened.clear()
    assert torch.equal(whole(backbone, paths, cached(tmp_path / "c")), expected)
    assert opened == paths[7:14]


@pytest.mark.parametrize("limit_mb", [0, 1])
def test_training_computes_a_damaged_shard_again(
    tmp_path: Path, opened: list[Path], limit_mb: int
) -> None:
    """In memory or on disk, before the first step."""
    paths = pictures(tmp_path / "images")
    backbone = FakeBackbone(frozen=True)
    expected = whole(backbone, paths, CPU)
    whole(backbone, paths, cached(tmp_path / "c"))
    flip(shards_of(tmp_path / "c")[0], -1)
    opened.clear()
    features = training_features(backbone, paths, cached(tmp_path / "c"), limit_mb, "none")
    assert features is not None
    assert opened == paths
    assert torch.equal(features[torch.arange(17)], expected)


def test_a_shard_of_another_format_is_left_alone(
    tmp_path: Path, opened: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """An older version may go on using the same folder."""
    paths = pictures(tmp_path / "images", 3)
    backbone = FakeBackbone(frozen=True)
    expected = whole(backbone, paths, cached(tmp_path / "c"))
    (shard,) = shards_of(tmp_path / "c")
    facts = json.dumps({"format": 1, "names": Shard(shard).names})
    save_file({"part0": torch.zeros_like(expected)}, shard, {"shard": facts})
    opened.clear()
    assert torch.equal(whole(backbone, paths, cached(tmp_path / "c")), expected)
    assert opened == paths
    assert "has format 1; accepted: 2; it is not used" in caplog.text
    assert len(shards_of(tmp_path / "c")) == 2


@pytest.mark.parametrize("damage", ["hash", "json", "kind"])
def test_a_damaged_table_of_hashes_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """An image with the hash of another one got that one's features."""
    paths = pictures(tmp_path / "images", 3)
    hashes = FeatureCache(tmp_path / "c").contents(paths)
    table = tmp_path / "c" / "images.json"
    text = table.read_text()
    table.write_text(
        {"hash": text.replace(hashes[0], hashes[1]), "json": text[:-9], "kind": "[]"}[damage]
    )
    assert FeatureCache(tmp_path / "c").contents(paths) == hashes
    assert "images.json is not used" in caplog.text
    caplog.clear()
    assert FeatureCache(tmp_path / "c").contents(paths) == hashes
    assert "is not used" not in caplog.text


def test_a_damaged_shard_that_stays_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a folder that may not be written."""
    paths = pictures(tmp_path / "images", 7)
    backbone = FakeBackbone(frozen=True)
    expected = whole(backbone, paths, cached(tmp_path / "c"))
    (shard,) = shards_of(tmp_path / "c")
    flip(shard, -1)

    def denied(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    assert torch.equal(whole(backbone, paths, cached(tmp_path / "c")), expected)
    assert f"{shard} cannot be removed" in caplog.text
