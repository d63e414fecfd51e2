"""Many images to shards of features or target embeddings, by one process or several."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from cir_plugins.encoding.cache import DTYPES
from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.features import Encoding, Guarded, ImageFiles
from cir_plugins.encoding.fingerprint import (
    backbone_fingerprint,
    content_hash,
    new_digest,
    plain_options,
)
from cir_plugins.encoding.shards import SUFFIX, Shard, remove_stale, write_shard
from cir_plugins.errors import CIRError
from cir_plugins.features import narrowed, tensors_of
from cir_plugins.files import write_atomically
from cir_plugins.method import Method

MANIFEST = "manifest.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Bulk:
    """What is encoded, and how it is cut.

    Attributes:
        what: ``targets``: embeddings as candidates; ``features``: the backbone's features.
        shard_size: Images per shard.
        dtype: ``same`` as computed, or ``fp32``, ``fp16``, ``bf16``.
        skip_broken: Leave out images that cannot be read, and name them in the manifest.
        rank: This process among ``processes``; shard k is its own where k % processes == rank.
        processes: Number of processes.
    """

    what: Literal["targets", "features"] = "targets"
    shard_size: int = 1024
    dtype: str = "same"
    skip_broken: bool = False
    rank: int = 0
    processes: int = 1


def spread_over_gpus() -> None:
    """Make the GPU of this process's local rank its own; processes share where GPUs are fewer."""
    gpus = torch.cuda.device_count()
    if gpus > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % gpus)


def images_of(folder: Path) -> dict[str, Path]:
    """Every image file under a folder: relative path -> file, sorted.

    Raises:
        CIRError: If there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise CIRError(
            f"no images in folder {folder}; accepted: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return {path.relative_to(folder).as_posix(): path for path in files}


def encode_images(
    method: Method, images: Mapping[str, Path], out: Path, encoding: Encoding, bulk: Bulk
) -> Path | None:
    """The manifest once every shard is there, None while other processes are at work.

    Shards that are there are kept, so that a run that was cut off goes on where it was; those of
    images whose files hold something else by now are encoded again.

    Args:
        method: Its weights are used; put into evaluation mode.
        images: Image name -> file.
        out: Folder of the shards.
        encoding: Where to encode.
        bulk: What to write.

    Raises:
        CIRError: If an image cannot be read (unless they are skipped), the disk is full, or the
            folder holds shards of other images, weights or settings.
    """
    method.eval()
    names = list(images)
    request = _request(method, names, encoding, bulk)
    remove_stale(out)
    total = -(-len(names) // bulk.shard_size)
    own = range(bulk.rank, total, bulk.processes)
    for number in tqdm(own, desc="shards", disable=not encoding.progress):
        path = shard_path(out, number)
        part = _part(images, names, number, bulk)
        if path.is_file() and _current(_check(path, request), part):
            continue
        (out / MANIFEST).unlink(missing_ok=True)  # one of before tells of other shards
        _write(method, part, path, encoding, bulk, request)
    return _manifest(out, images, request, bulk)


def shard_path(out: Path, number: int) -> Path:
    """File of a shard."""
    return out / f"shard-{number:06d}{SUFFIX}"


def _request(method: Method, names: Sequence[str], encoding: Encoding, bulk: Bulk) -> str:
    """Key of all that decides what stands in the shards."""
    extra = f"{bulk.what} {bulk.dtype} {bulk.shard_size} {bulk.skip_broken} {encoding.dtype}"
    digest = new_digest()
    # Options of the method too: what it makes of features may depend on them.
    extra = f"{extra} {plain_options(method)}"
    digest.update(
        backbone_fingerprint(method.backbone, list(method.state_dict().items()), extra).encode()
    )
    digest.update(json.dumps(list(names)).encode())
    key: str = digest.hexdigest()
    return key


def _check(path: Path, request: str) -> Shard:
    shard = Shard(path)
    if shard.facts.get("request") != request:
        raise CIRError(
            f"{path} was written for other images, weights or settings; "
            "accepted: another --out, or the same command as before"
        )
    return shard


def _part(
    images: Mapping[str, Path], names: Sequence[str], number: int, bulk: Bulk
) -> dict[str, Path]:
    """The images of a shard."""
    first = number * bulk.shard_size
    return {name: images[name] for name in names[first : first + bulk.shard_size]}


def _current(shard: Shard, images: Mapping[str, Path]) -> bool:
    """Whether the files hold what they held when the shard was written.

    They are read only where their sizes and times are others.
    """
    if shard.facts.get("times") == _stamp(images.values(), _size_and_time):
        return True
    return bool(shard.facts.get("content") == _stamp(images.values(), content_hash))


def _stamp(paths: Iterable[Path], facts: Callable[[Path], str]) -> str:
    """Hash of what ``facts`` says of each file; one that is not there says nothing."""
    digest = new_digest()
    for path in paths:
        said = ""
        with suppress(OSError):
            said = facts(path)
        digest.update(f"{said}\n".encode())
    key: str = digest.hexdigest()
    return key


def _size_and_time(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _collate(items: list[Any]) -> tuple[Any, list[CIRError | None]]:
    errors = [item if isinstance(item, CIRError) else None for item in items]
    good = [item for item in items if not isinstance(item, CIRError)]
    return (default_collate(good) if good else None), errors


def _write(
    method: Method,
    images: Mapping[str, Path],
    path: Path,
    encoding: Encoding,
    bulk: Bulk,
    request: str,
) -> None:
    # Before they are decoded: what changes meanwhile is encoded again the next time.
    stamps = {
        "times": _stamp(images.values(), _size_and_time),
        "content": _stamp(images.values(), content_hash),
    }
    names, kept, broken = iter(images), [], {}
    parts: list[tuple[Tensor, ...]] = []
    loader = DataLoader(
        Guarded(ImageFiles(list(images.values()), method.backbone.preprocess)),
        batch_size=encoding.batch_size,
        num_workers=min(encoding.workers, -(-len(images) // encoding.batch_size)),
        pin_memory=encoding.device.type == "cuda",
        collate_fn=_collate,
        generator=torch.Generator(),
    )
    for pixels, errors in loader:
        for error in errors:
            name = next(names)
            if error is None:
                kept.append(name)
            elif bulk.skip_broken:
                broken[name] = str(error)
            else:
                raise CIRError(f"{error}\nleave such images out with --skip-broken") from error
        if pixels is not None:
            parts.append(_encoded(method, pixels, encoding, bulk, path))
    whole = [torch.cat(list(tensors)) for tensors in zip(*parts, strict=True)]
    write_shard(path, whole, kept, {"request": request, "broken": broken, **stamps})


def _encoded(
    method: Method, pixels: Tensor, encoding: Encoding, bulk: Bulk, path: Path
) -> tuple[Tensor, ...]:
    with torch.no_grad(), autocast(encoding.device, encoding.dtype):
        features = method.backbone.features(pixels.to(encoding.device, non_blocking=True))
        made = features if bulk.what == "features" else method.encode_gallery(features).float()
    made = narrowed(made, DTYPES.get(bulk.dtype), f"{path}", "--dtype bf16 or same")
    return tuple(part.cpu() for part in tensors_of(made))


def _manifest(out: Path, images: Mapping[str, Path], request: str, bulk: Bulk) -> Path | None:
    """Written by whoever finds all shards there; what stands in it is the same for all."""
    names = list(images)
    paths = [shard_path(out, number) for number in range(-(-len(names) // bulk.shard_size))]
    if not all(path.is_file() for path in paths):
        return None
    shards = [_check(path, request) for path in paths]
    parts = (_part(images, names, number, bulk) for number in range(len(paths)))
    if not all(map(_current, shards, parts)):
        return None
    content = {
        "what": bulk.what,
        "dtype": bulk.dtype,
        "request": request,
        "images": sum(len(shard.names) for shard in shards),
        "broken": {name: why for shard in shards for name, why in shard.facts["broken"].items()},
        "shards": [{"file": shard.path.name, "images": len(shard.names)} for shard in shards],
    }
    write_atomically(out / MANIFEST, (json.dumps(content, indent=2) + "\n").encode(), shared=True)
    return out / MANIFEST
