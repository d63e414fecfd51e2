"""Indexing: vectors of new and changed pictures are encoded, those of the others kept.

New pictures are encoded in shards, as by ``cir encode``, in a folder of their own below the index;
a process that is killed leaves whole shards, and the next one goes on after them. Where the
pictures changed in between, what the shards hold of them is used too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from cir_plugins.encoding.export import ExportSettings, encode_images
from cir_plugins.encoding.fingerprint import content_hash, new_digest
from cir_plugins.encoding.shards import SUFFIX, Shard
from cir_plugins.errors import CIRError
from cir_plugins.files import read_json, remove_stale, write_json
from cir_plugins.retriever import Retriever
from cir_plugins.search.storage import Stored

STAGING, WANTED = "staging", "pictures.json"
SHARD_SIZE = 1024


@dataclass
class Pictures:
    """The pictures that are to be in the index.

    Attributes:
        paths: Id -> file, in gallery order; without those that cannot be read.
        stamps: Id -> size in bytes and time of change in ns.
        contents: Id -> hash of the file's bytes.
        left_out: Id -> why it cannot be read.
    """

    paths: dict[str, Path]
    stamps: dict[str, tuple[int, int]]
    contents: dict[str, str]
    left_out: dict[str, str]


def look_at(images: Mapping[str, Path], before: Stored | None, progress: bool) -> Pictures:
    """The pictures with their hashes; a file of the same size and time as before is not read."""
    known: dict[tuple[str, int, int], str] = {}
    if before is not None:
        hashes, stamps = before.table.contents.numpy(), before.table.stamps.tolist()
        for row, name in enumerate(before.ids):
            size, time = stamps[row]
            known[name, size, time] = hashes[row].tobytes().hex()
    pictures = Pictures({}, {}, {}, {})
    for name, path in tqdm(images.items(), desc="files", disable=not progress, leave=False):
        try:
            stat = path.stat()
            stamp = stat.st_size, stat.st_mtime_ns
            content = known.get((name, *stamp)) or content_hash(path)
        except OSError as error:
            pictures.left_out[name] = f"image {path} cannot be read: {error.strerror}"
            continue
        pictures.paths[name], pictures.stamps[name] = path, stamp
        pictures.contents[name] = content
    return pictures


class Staging:
    """Shards of vectors that wait until the index is written.

    Several lie side by side where the pictures changed after a process was killed: folder ``1`` is
    of the pictures that were new then, folder ``2`` of those that are new now and that ``1`` lacks.

    Args:
        folder: Folder of them all.
        fingerprint: Of the model; what another one left is removed.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint[:16]
        if folder.is_dir():
            for other in folder.iterdir():
                if other != self.folder:
                    shutil.rmtree(other, ignore_errors=True)

    def begin(self, wanted: Mapping[str, str]) -> tuple[Path, list[str]]:
        """Folder and pictures of the shards that are to be written.

        Args:
            wanted: Id -> content of the pictures whose vectors are needed.
        """
        done: set[str] = set()
        folders = self._folders()
        for position, folder in enumerate(folders):
            names = [name for name, content in wanted.items() if content not in done]
            if position == len(folders) - 1 and self._todo(folder) == _items(names, wanted):
                return folder, names
            done |= {content for content, _ in self._held(folder)}
        names = [name for name, content in wanted.items() if content not in done]
        folder = self.folder / str(len(folders) + 1)
        if names:
            write_json(folder / WANTED, _items(names, wanted))
        return folder, names

    def vectors(self) -> Vectors:
        """All vectors that wait, by content."""
        places: dict[str, tuple[Path, int]] = {}
        broken: dict[str, str] = {}
        for folder in self._folders():
            places |= {c: place for c, place in self._held(folder) if c not in places}
            broken |= self._broken(folder)
        return Vectors(places, broken)

    def remove(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        numbers = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return [p for p in sorted(numbers, key=lambda p: int(p.name)) if (p / WANTED).is_file()]

    def _todo(self, folder: Path) -> list[list[str]]:
        try:
            content: Any = read_json(folder / WANTED)
        except CIRError:
            return []
        return content if isinstance(content, list) else []

    def _shards(self, folder: Path) -> Iterator[Shard]:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                shard = Shard(path)
                shard.verify()
            except CIRError:
                continue  # encoded again
            yield shard

    def _held(self, folder: Path) -> Iterator[tuple[str, tuple[Path, int]]]:
        """Content and place of each vector in a folder's shards."""
        content = dict(self._todo(folder))
        for shard in self._shards(folder):
            for row, name in enumerate(shard.names):
                if name in content:
                    yield content[name], (shard.path, row)

    def _broken(self, folder: Path) -> dict[str, str]:
        content = dict(self._todo(folder))
        return {
            content[name]: why
            for shard in self._shards(folder)
            for name, why in shard.facts.get("broken", {}).items()
            if name in content
        }


def _items(names: Sequence[str], wanted: Mapping[str, str]) -> list[list[str]]:
    return [[name, wanted[name]] for name in names]


class Vectors:
    """Vectors in shards, by content; the shard that was read last stays in memory.

    Args:
        places: Content -> shard and row.
        broken: Content -> why the picture has no vector.
    """

    def __init__(self, places: Mapping[str, tuple[Path, int]], broken: Mapping[str, str]) -> None:
        self.places, self.broken = places, broken
        self._last: tuple[Path, Tensor] | None = None

    def __contains__(self, content: str) -> bool:
        return content in self.places

    def __getitem__(self, content: str) -> Tensor:
        path, row = self.places[content]
        if self._last is None or self._last[0] != path:
            self._last = path, Shard(path).whole()[0]
        return self._last[1][row]


def encode_new(
    retriever: Retriever,
    pictures: Pictures,
    staging: Staging,
    known: Mapping[str, int],
    settings: tuple[int, bool, int, int],
) -> bool:
    """Whether the vectors of all pictures are there, once this process has encoded its share.

    Args:
        retriever: The model.
        pictures: All that is to be in the index.
        staging: Where shards go.
        known: Content -> row, of the vectors that the index has already.
        settings: Images per forward pass, whether bars are shown, rank and number of processes.

    Raises:
        CIRError: If the disk is full.
    """
    size, progress, rank, world_size = settings
    wanted = {name: c for name, c in pictures.contents.items() if c not in known}
    folder, names = staging.begin(wanted)
    if not names:
        return True
    remove_stale(folder)
    encoding = replace(retriever.encoding, batch_size=size, progress=progress)
    shards = ExportSettings("targets", _shard_size(size), "fp32", True, rank, world_size)
    files = {name: pictures.paths[name] for name in names}
    return encode_images(retriever.method, files, folder, encoding, shards) is not None


def _shard_size(batch: int) -> int:
    """Images of a shard: whole batches, so that they are those of encoding all in one go."""
    return max(1, SHARD_SIZE // batch) * batch


def lasting_keys(names: Sequence[str], contents: Sequence[str]) -> Tensor:
    """Keys (N,) int64 of pictures, the same for the same id and content.

    Raises:
        CIRError: If two pictures have one key, which no billion of them should.
    """
    keys = []
    for name, content in zip(names, contents, strict=True):
        digest = new_digest()
        digest.update(json.dumps([name, content]).encode())
        keys.append(int.from_bytes(digest.digest()[:8], "big") >> 1)
    if len(set(keys)) != len(keys):
        raise CIRError("two pictures have the same key; rename one of them")
    return torch.tensor(keys, dtype=torch.int64)


def content_rows(contents: Sequence[str]) -> Tensor:
    """Hashes as a tensor (N, 16) uint8."""
    whole = bytearray(bytes.fromhex("".join(contents)))
    if not whole:
        return torch.empty(0, 16, dtype=torch.uint8)
    return torch.frombuffer(whole, dtype=torch.uint8).view(-1, 16)


def lock_of(folder: Path) -> FileLock:
    """The lock that is held while an index is put together."""
    return FileLock(folder / ".writing.lock")
