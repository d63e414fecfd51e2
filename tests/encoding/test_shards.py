from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cir_plugins.encoding.shards import STALE_SECONDS, Shard, remove_stale, write_shard
from cir_plugins.errors import CIRError

WRITER = """
import sys, torch
from pathlib import Path
from cir_plugins.encoding.shards import write_shard
folder = Path(sys.argv[1])
number = 0
while True:
    write_shard(
        folder / f"{number}.safetensors", [torch.full((64, 4096), float(number))], ["x"] * 64, {}
    )
    print(number, flush=True)
    number += 1
"""


def test_rows_and_facts_come_back(tmp_path: Path) -> None:
    parts = (torch.arange(6.0).view(3, 2), torch.tensor([7, 8, 9]))
    write_shard(tmp_path / "new" / "a.safetensors", parts, ["x", "y", "z"], {"kind": "k"})
    shard = Shard(tmp_path / "new" / "a.safetensors")
    assert shard.names == ["x", "y", "z"]
    assert shard.facts["kind"] == "k"
    first, second = shard.row(1)
    assert first.tolist() == [[2.0, 3.0]]
    assert second.tolist() == [8]
    assert all(torch.equal(a, b) for a, b in zip(shard.whole(), parts, strict=True))


def test_what_is_no_shard_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"half of a shard")
    with pytest.raises(CIRError, match=r"a\.safetensors is damaged or not of features"):
        Shard(path)


def test_a_killed_writer_leaves_whole_shards_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.013)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = sorted(tmp_path.glob("*.safetensors"))
    assert len(found) >= 3
    for path in found:
        (values,) = Shard(path).whole()
        assert torch.equal(values, torch.full((64, 4096), float(path.stem)))


def test_half_written_files_go_when_they_are_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.safetensors.1.part", tmp_path / ".a.safetensors.2.part"
    for file in (old, new):
        file.write_bytes(b"half")
    before = time.time() - 2 * STALE_SECONDS
    os.utime(old, (before, before))
    remove_stale(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [new.name]
