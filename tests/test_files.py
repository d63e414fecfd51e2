from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cir_plugins.errors import CIRError
from cir_plugins.files import (
    is_partial,
    json_bytes,
    remove_stale,
    write_atomically,
    write_json,
)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """And nothing beside it."""
    path = tmp_path / "x.json"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CIRError, match=r"no space left on the disk of .*; x\.json was not"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert path.read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    path = small_disk / "x.json"
    write_atomically(path, b"old")
    with pytest.raises(CIRError, match="no space left on the disk"):
        write_atomically(path, bytes(400_000))
    assert [file.name for file in small_disk.iterdir()] == ["x.json"]
    assert path.read_bytes() == b"old"


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "deep" / "x.json", b"new")
    assert (tmp_path / "new" / "deep" / "x.json").read_bytes() == b"new"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CIRError, match=r"file/x\.json cannot be written: (Not a dir|File exists)"):
        write_atomically(tmp_path / "file" / "x.json", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CIRError, match=r"folder cannot be written: Is a directory"):
        write_atomically(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are large: leftovers of interrupted runs must not add up."""
    path = tmp_path / "x.json"
    write_atomically(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert path.read_bytes() == b"new"


def test_two_writers_share_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One renamed what the other had half written."""
    partial: list[str] = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        partial.append(source.name)
        if len(partial) == 1:
            write_atomically(target, b"second")
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    write_atomically(tmp_path / "x.json", b"first")
    assert len(set(partial)) == 2
    assert all(map(is_partial, partial))
    assert (tmp_path / "x.json").read_bytes() == b"first"


def test_a_killed_writer_leaves_a_file_to_remove(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from cir_plugins.files import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    path = tmp_path / "x.json"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [is_partial(file.name) for file in tmp_path.iterdir()] == [True]
    remove_stale(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_living_writer_keeps_its_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Age says nothing: a slow disk takes long, and a killed process is dead at once."""
    sync = os.fsync

    def cleaned(descriptor: int) -> None:
        remove_stale(tmp_path)  # as another process does meanwhile
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", cleaned)
    (tmp_path / ".left.1.part").write_bytes(b"half")
    (tmp_path / "other.part").write_bytes(b"not ours")
    write_atomically(tmp_path / "x.json", b"new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.part", "x.json"]
    assert (tmp_path / "x.json").read_bytes() == b"new"
    remove_stale(tmp_path / "missing")


def test_a_file_removed_before_its_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, another process takes the file for one that was left."""
    flock, seen = fcntl.flock, list[str]()

    def late(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not seen:
            seen.extend(path.name for path in tmp_path.iterdir())
            remove_stale(tmp_path)
            assert not list(tmp_path.iterdir())
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomically(tmp_path / "x.json", b"new")
    assert len(seen) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_atomically(tmp_path / "x.json", b"")
    assert (tmp_path / "x.json").stat().st_mode == plain.stat().st_mode


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    """With names of files that are no text."""
    content = {"é": ["\udc80", "red"], "b": {"c": 0.1, "d": None}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.startswith('{\n "é": [\n  "\\udc80",')
    assert text.endswith("}\n")
    assert json_bytes({"a": [1, 2]}, compact=True) == b'{"a":[1,2]}'


def test_numbers_that_are_no_json_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
