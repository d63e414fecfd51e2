from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cir_plugins.encoding.shards import (
    FORMAT,
    DamagedShardError,
    OtherFormatError,
    Shard,
    ShardWriter,
)
from cir_plugins.errors import CIRError
from cir_plugins.types import Features
from tests.places import ROOT

WRITER = """
import sys, torch
from pathlib import Path
from tests.encoding.test_shards import write
folder = Path(sys.argv[1])
number = 0
while True:
    names = [str(image) for image in range(64)]
    write(folder / f"{number}.safetensors", torch.full((64, 4096), float(number)), names)
    print(number, flush=True)
    number += 1
"""


class Two(NamedTuple):
    """Features of two kinds."""

    states: Tensor
    sums: Tensor


def write(path: Path, features: Features, names: Sequence[str], **facts: str) -> Path:
    writer = ShardWriter("x", None, "y")
    writer.add(names, features, names)
    writer.write(path, facts)
    return path


def small(folder: Path) -> Path:
    """A shard of three images."""
    features = Two(torch.arange(6.0).view(3, 2), torch.tensor([7, 8, 9]))
    return write(folder / "a.safetensors", features, ["x", "y", "z"], kind="k")


def test_rows_and_facts_come_back(tmp_path: Path) -> None:
    shard = Shard(small(tmp_path / "new"))
    assert shard.names == ["x", "y", "z"]
    assert shard.facts["kind"] == "k"
    first, second = shard.row(1)
    assert first.tolist() == [[2.0, 3.0]]
    assert second.tolist() == [8]
    states, sums = shard.whole()
    assert torch.equal(states, torch.arange(6.0).view(3, 2))
    assert torch.equal(sums, torch.tensor([7, 8, 9]))


def test_writer_collects_what_is_selected(tmp_path: Path) -> None:
    writer = ShardWriter("x", torch.float16, "y")
    rows = torch.arange(8.0).view(4, 2) / 3
    written = writer.add(["a", "b", "a", "c"], rows, {"a", "c"})
    assert torch.equal(written, rows.half())
    assert ("a" in writer, "b" in writer, "c" in writer) == (True, False, True)
    assert torch.equal(writer.row("c"), rows[3:].half())
    writer.add(["c", "d"], rows[:2], {"c", "d"})
    assert writer.size_in_bytes == 3 * 2 * 2
    writer.write(tmp_path / "a.safetensors", {})
    shard = Shard(tmp_path / "a.safetensors")
    assert shard.names == ["a", "c", "d"]
    assert torch.equal(shard.whole()[0], rows[[0, 3, 1]].half())
    assert (writer.size_in_bytes, "a" in writer) == (0, False)


def test_a_shard_may_be_without_images(tmp_path: Path) -> None:
    """All images of a shard of ``cir encode`` may be broken."""
    ShardWriter("x", None, "y").write(tmp_path / "a.safetensors", {})
    assert Shard(tmp_path / "a.safetensors").names == []
    assert Shard(tmp_path / "a.safetensors").whole() == ()


def test_file_that_is_no_shard_is_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for content in (b"", b"half of a shard", b"half of a shard" * 99):
        path.write_bytes(content)
        with pytest.raises(
            DamagedShardError, match=r"a\.safetensors is damaged or not of features"
        ):
            Shard(path)
    save_file({"part0": torch.ones(1)}, path)
    with pytest.raises(DamagedShardError, match=r"a\.safetensors is damaged or not of features"):
        Shard(path)
    with pytest.raises(CIRError, match=r"b\.safetensors cannot be read"):
        Shard(tmp_path / "b.safetensors")


def test_other_formats_are_distinguished_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    facts = {"format": 1, "names": ["x"]}
    save_file({"part0": torch.ones(1)}, path, {"shard": json.dumps(facts)})
    with pytest.raises(OtherFormatError, match=f"has format 1; accepted: {FORMAT}"):
        Shard(path)
    facts["format"] = FORMAT
    save_file({"part0": torch.ones(1)}, path, {"shard": json.dumps(facts)})
    with pytest.raises(DamagedShardError, match="it has no checksums"):
        Shard(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In each byte of header, names, dtypes, checksums and features; padding changes nothing."""
    path = small(tmp_path)
    content = path.read_bytes()
    expected = Shard(path).whole()
    noticed = 0
    for byte in range(len(content)):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << byte % 8
        path.write_bytes(damaged)
        try:
            shard = Shard(path)
            assert shard.names == ["x", "y", "z"]
            assert all(torch.equal(a, b) for a, b in zip(shard.whole(), expected, strict=True))
        except DamagedShardError:
            noticed += 1
    assert noticed > len(content) * 0.95


def test_a_shard_is_verified_once(tmp_path: Path) -> None:
    """By its first row; later rows are read without a checksum."""
    path = small(tmp_path)
    shard = Shard(path)
    assert not shard.verified
    shard.row(0)
    assert shard.verified
    shard._checksums.values.clear()
    shard.row(1)


def test_a_killed_writer_leaves_whole_shards_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.013)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) >= 3
    for path in shards:
        (values,) = Shard(path).whole()
        assert torch.equal(values, torch.full((64, 4096), float(path.stem)))
