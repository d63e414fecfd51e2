"""Shards of features or target embeddings of many images, written by one process or several."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from cir_plugins.encoding.device import autocast
from cir_plugins.encoding.features import Encoding
from cir_plugins.encoding.fingerprint import (
    backbone_fingerprint,
    content_hash,
    new_digest,
    plain_options,
)
from cir_plugins.encoding.loading import image_loader, loaded
from cir_plugins.encoding.shards import (
    DTYPES,
    SUFFIX,
    DamagedShardError,
    OtherFormatError,
    Shard,
    ShardWriter,
)
from cir_plugins.errors import CIRError
from cir_plugins.files import remove_stale, write_json
from cir_plugins.method import Method
from cir_plugins.types import Features
from cir_plugins.workers import worker_errors

MANIFEST = "manifest.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSettings:
    """What is encoded, and how it is divided into shards.

    Attributes:
        what: ``targets``: embeddings as candidates; ``features``: the backbone's features.
        shard_size: Images per shard.
        dtype: ``same`` as computed, or ``fp32``, ``fp16``, ``bf16``.
        skip_broken: Leave out images that cannot be read, and name them in the manifest.
        rank: Rank of this process; it writes shard k where k % world_size == rank.
        world_size: Number of processes.
    """

    what: Literal["targets", "features"] = "targets"
    shard_size: int = 1024
    dtype: str = "same"
    skip_broken: bool = False
    rank: int = 0
    world_size: int = 1


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


@worker_errors()
def encode_images(
    method: Method,
    images: Mapping[str, Path],
    out: Path,
    encoding: Encoding,
    settings: ExportSettings,
) -> Path | None:
    """The manifest once every shard is there, None while other processes are at work.

    Shards that are there are kept, so that a run that was cut off goes on where it was. Damaged
    ones are encoded again, and those of images whose files hold something else by now.

    Args:
        method: Its weights are used; put into evaluation mode.
        images: Image name -> file.
        out: Folder of the shards.
        encoding: Where to encode.
        settings: What to write.

    Raises:
        CIRError: If an image cannot be read (unless they are skipped), the disk is full, or the
            folder holds shards of other images, weights, settings or another version.
    """
    method.eval()
    fingerprint = _fingerprint(method, list(images), encoding, settings)
    remove_stale(out)
    groups = _groups(images, settings.shard_size)
    local = range(settings.rank, len(groups), settings.world_size)
    for number in tqdm(local, desc="shards", disable=not encoding.progress):
        path = shard_path(out, number)
        shard = _open(path, fingerprint)
        if shard is not None and _is_current(shard, groups[number]) and _is_whole(shard):
            continue
        (out / MANIFEST).unlink(missing_ok=True)  # an earlier one is of other shards
        _write(method, groups[number], path, encoding, settings, fingerprint)
    return _manifest(out, groups, fingerprint, settings)


def shard_path(out: Path, number: int) -> Path:
    """File of a shard."""
    return out / f"shard-{number:06d}{SUFFIX}"


def _fingerprint(
    method: Method, names: Sequence[str], encoding: Encoding, settings: ExportSettings
) -> str:
    """Hash of all that decides what stands in the shards, except what the image files hold."""
    extra = (
        f"{settings.what} {settings.dtype} {settings.shard_size} {settings.skip_broken} "
        # Options of the method too: what it makes of features may depend on them.
        f"{encoding.dtype} {plain_options(method)}"
    )
    digest = new_digest()
    digest.update(
        backbone_fingerprint(method.backbone, list(method.state_dict().items()), extra).encode()
    )
    digest.update(json.dumps(list(names)).encode())
    return digest.hexdigest()


def _open(path: Path, fingerprint: str) -> Shard | None:
    """The shard, or None where it is missing or its header is damaged.

    Raises:
        CIRError: If it is one of other images, weights, settings or another version.
    """
    if not path.is_file():
        return None
    try:
        shard = Shard(path)
    except DamagedShardError as error:
        _LOG.warning("%s; its images are encoded again", error)
        return None
    except OtherFormatError as error:
        raise CIRError(f"{error}, or another --out") from error
    if shard.facts.get("fingerprint") != fingerprint:
        raise CIRError(
            f"{path} was written for other images, weights or settings; "
            "accepted: another --out, or the same command as before"
        )
    return shard


def _is_whole(shard: Shard) -> bool:
    """Whether a shard's tensors are those that were written; a warning where they are not."""
    try:
        shard.verify()
    except DamagedShardError as error:
        _LOG.warning("%s; its images are encoded again", error)
        return False
    return True


def _groups(images: Mapping[str, Path], size: int) -> list[dict[str, Path]]:
    """The images of each shard."""
    names = list(images)
    starts = range(0, len(names), size)
    return [{name: images[name] for name in names[start : start + size]} for start in starts]


def _is_current(shard: Shard, images: Mapping[str, Path]) -> bool:
    """Whether the files hold what they held when the shard was written.

    They are read only where their sizes and times are others.
    """
    if shard.facts.get("times") == _hash_over(images.values(), _size_and_time):
        return True
    return bool(shard.facts.get("content") == _hash_over(images.values(), content_hash))


def _hash_over(paths: Iterable[Path], describe: Callable[[Path], str]) -> str:
    """Hash of what ``describe`` gives for each file; nothing for one that is not there."""
    digest = new_digest()
    for path in paths:
        description = ""
        with suppress(OSError):
            description = describe(path)
        digest.update(f"{description}\n".encode())
    return digest.hexdigest()


def _size_and_time(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _collate(items: list[Any]) -> tuple[Any, list[CIRError | None]]:
    errors = [item if isinstance(item, CIRError) else None for item in items]
    pixels = [item for item in items if not isinstance(item, CIRError)]
    return (default_collate(pixels) if pixels else None), errors


def _write(
    method: Method,
    images: Mapping[str, Path],
    path: Path,
    encoding: Encoding,
    settings: ExportSettings,
    fingerprint: str,
) -> None:
    facts: dict[str, Any] = {
        "fingerprint": fingerprint,
        # Before they are decoded: what changes meanwhile is encoded again the next time.
        "times": _hash_over(images.values(), _size_and_time),
        "content": _hash_over(images.values(), content_hash),
    }
    broken: dict[str, str] = {}
    writer = ShardWriter(f"{path}", DTYPES.get(settings.dtype), "--dtype bf16 or same")
    loader = image_loader(
        list(images.values()),
        method.backbone.preprocess,
        batch_size=encoding.batch_size,
        workers=encoding.workers,
        pinned=encoding.device.type == "cuda",
        collate=_collate,
    )
    names = iter(images)
    for pixels, errors in loaded(loader):
        members = []
        for error in errors:
            name = next(names)
            if error is None:
                members.append(name)
            elif settings.skip_broken:
                broken[name] = str(error)
            else:
                raise CIRError(f"{error}\nleave such images out with --skip-broken") from error
        if pixels is not None:
            features = _encoded(method, pixels, encoding, settings)
            writer.add(members, features, frozenset(members))
    writer.write(path, {**facts, "broken": broken})


def _encoded(
    method: Method, pixels: Tensor, encoding: Encoding, settings: ExportSettings
) -> Features:
    with torch.no_grad(), autocast(encoding.device, encoding.dtype):
        features: Features = method.backbone.features(pixels.to(encoding.device, non_blocking=True))
        if settings.what == "features":
            return features
        return method.encode_gallery(features).float()


def _manifest(
    out: Path, groups: Sequence[Mapping[str, Path]], fingerprint: str, settings: ExportSettings
) -> Path | None:
    """Written by each process that finds all shards there, with the same content.

    The tensors of a shard are verified by the process that writes it.
    """
    shards = []
    for number, images in enumerate(groups):
        shard = _open(shard_path(out, number), fingerprint)
        if shard is None or not _is_current(shard, images):
            return None
        shards.append(shard)
    content = {
        "what": settings.what,
        "dtype": settings.dtype,
        "fingerprint": fingerprint,
        "images": sum(len(shard.names) for shard in shards),
        "broken": {name: why for shard in shards for name, why in shard.facts["broken"].items()},
        "shards": [{"file": shard.path.name, "images": len(shard.names)} for shard in shards],
    }
    write_json(out / MANIFEST, content)
    return out / MANIFEST
