"""The drawn set on disk, in FashionIQ's layout, written whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from cir_plugins import CIRError, follow_parent
from garments_plugin.draw import draw_garment
from garments_plugin.kinds import CATEGORIES, Garment, sample_garment
from garments_plugin.triplets import Triplet, make_triplets, mean_positives

MIN_IMAGES = 50
SIZES = (32, 512)
SPLITS = ("train", "val")
_TRIPLETS_EACH = {"train": 2, "val": 1}
_BATCH = 50
_LOCK = ".lock"
# One round of twenty images: every fifth or so is a top, and no category is left out.
_ROUND = (
    *("toptee", "dress", "shoes", "shirt", "bottoms", "toptee", "bags", "accessory", "shirt"),
    *("dress", "toptee", "bottoms", "shoes", "shirt", "toptee", "accessory", "bags", "dress"),
    *("bottoms", "toptee"),
)


@dataclass(frozen=True)
class Summary:
    """Counts of a written set per split, and the mean number of positives per query."""

    out: Path
    images: int
    split_images: Mapping[str, int]
    split_triplets: Mapping[str, int]
    mean_positives: Mapping[str, float]


def image_id(index: int) -> str:
    """The id of the image with this number."""
    return f"DG{index:06d}"


def _garment_at(seed: int, index: int) -> tuple[Garment, np.random.Generator]:
    rng = np.random.default_rng([seed, index])
    return sample_garment(rng, _ROUND[index % len(_ROUND)]), rng


def _draw_batch(folder: Path, seed: int, start: int, stop: int, size: int) -> int:
    """Draw and write the images start..stop-1; return their number."""
    for index in range(start, stop):
        garment, rng = _garment_at(seed, index)
        picture = draw_garment(garment, rng, size)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=int(rng.integers(82, 95)))
        (folder / f"{image_id(index)}.jpg").write_bytes(data.getvalue())
    return stop - start


def _draw_all(
    folder: Path, *, images: int, seed: int, size: int, workers: int, progress: bool
) -> None:
    starts = range(0, images, _BATCH)
    batches = [(folder, seed, start, min(start + _BATCH, images), size) for start in starts]
    with tqdm(total=images, unit="image", disable=not progress, desc="drawing") as bar:
        if workers == 1:
            for batch in batches:
                bar.update(_draw_batch(*batch))
            return
        # A fork of a process with threads (torch) may hang; a fresh process does not.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, follow_parent) as executor:
            futures: list[Future[int]] = [executor.submit(_draw_batch, *batch) for batch in batches]
            try:
                for future in futures:
                    bar.update(future.result())
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise


def _split_ids(ids: list[str], share: float, rng: np.random.Generator) -> dict[str, list[str]]:
    """Train and val ids of a category; each split gets at least two where it can."""
    held = min(max(round(share * len(ids)), 2), len(ids) - 2)
    order = rng.permutation(len(ids))
    return {
        "val": sorted(ids[int(number)] for number in order[:held]),
        "train": sorted(ids[int(number)] for number in order[held:]),
    }


def _write_json(path: Path, value: list[Any] | dict[str, Any]) -> None:
    """Write one entry per line: easy to read, and quicker to make than an indented tree."""
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()]
        left, right = "{", "}"
    else:
        lines = [json.dumps(entry) for entry in value]
        left, right = "[", "]"
    text = left + "\n" + ",\n".join(lines) + "\n" + right + "\n"
    path.write_text(text, encoding="utf-8")


def _write_split(
    root: Path, category: str, split: str, ids: list[str], triplets: list[Triplet]
) -> None:
    name = f"{category}.{split}.json"
    entries = [
        {"target": t.target, "candidate": t.reference, "captions": list(t.captions)}
        for t in triplets
    ]
    _write_json(root / "captions" / f"cap.{name}", entries)
    _write_json(root / "image_splits" / f"split.{name}", ids)
    _write_json(root / "meta" / f"kinds.{name}", ["+".join(t.changed) for t in triplets])


def write_annotations(root: Path, out: Path, *, images: int, seed: int, share: float) -> Summary:
    """Write the annotations of a set, without images; return its counts.

    Args:
        root: Folder with ``captions``, ``image_splits`` and ``meta``.
        out: Final folder of the set, for the summary.
        images: Number of images.
        seed: Seed of the set.
        share: Share of the images in the val split.
    """
    attributes: dict[str, dict[str, str]] = {}
    members: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for index in range(images):
        garment, _ = _garment_at(seed, index)
        attributes[image_id(index)] = garment.attributes()
        members[garment.category].append(image_id(index))
    _write_json(root / "attributes.json", attributes)
    counts = dict.fromkeys(SPLITS, 0)
    queries = dict.fromkeys(SPLITS, 0)
    positives = dict.fromkeys(SPLITS, 0.0)
    for number, category in enumerate(CATEGORIES):
        # A third number separates these streams from those of the images.
        rng = np.random.default_rng([seed, number, 1])
        for split, ids in _split_ids(members[category], share, rng).items():
            triplets = make_triplets(ids, attributes, rng, each=_TRIPLETS_EACH[split])
            _write_split(root, category, split, ids, triplets)
            counts[split] += len(ids)
            queries[split] += len(triplets)
            positives[split] += mean_positives(triplets, ids, attributes) * len(triplets)
    means = {split: round(positives[split] / max(queries[split], 1), 3) for split in SPLITS}
    return Summary(out, images, counts, queries, means)


def _check(images: int, size: int, val_share: float, workers: int | None, seed: int) -> None:
    if images < MIN_IMAGES:
        raise CIRError(f"images is {images}; accepted: {MIN_IMAGES} or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise CIRError(f"size is {size}; accepted: {SIZES[0]} to {SIZES[1]} pixels")
    if not 0.0 < val_share < 1.0:
        raise CIRError(f"val_share is {val_share}; accepted: above 0 and below 1")
    if workers is not None and workers < 1:
        raise CIRError(f"workers is {workers}; accepted: 1 or more, or none for one per core")
    if seed < 0:
        raise CIRError(f"seed is {seed}; accepted: 0 or more")


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise CIRError(f"{out} is a file; accepted: a new or an empty folder")
    if out.is_dir() and any(out.iterdir()):
        raise CIRError(f"{out} is not empty; accepted: a new or an empty folder")


def _remove_left(out: Path) -> None:
    """Remove the unfinished sets of processes that were killed: nobody holds their locks."""
    for lock in out.parent.glob(f".{escape(out.name)}.*/{_LOCK}"):
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.parent, ignore_errors=True)
        except (Timeout, OSError):
            continue  # one that is being drawn, or of somebody else


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a folder beside ``out`` that becomes ``out`` if the block ends well."""
    box: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(out)
        box = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        with FileLock(box / _LOCK):
            root = box / "set"
            root.mkdir()
            yield root
            if out.is_dir():
                out.rmdir()
            root.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CIRError(f"no space left on {out.parent}: no file was written") from error
        raise CIRError(f"cannot write {out}: {error.strerror or error}") from error
    except BrokenProcessPool as error:
        raise CIRError(
            "a drawing process ended too early: no file was written\n"
            "try workers=1; in a script, call it under if __name__ == '__main__'"
        ) from error
    finally:
        if box is not None:
            shutil.rmtree(box, ignore_errors=True)


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_garments(
    out: Path,
    *,
    images: int = 2000,
    seed: int = 0,
    val_share: float = 0.25,
    size: int = 96,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Write a set of drawn garments in FashionIQ's layout; return its counts.

    The same seed and options give the same bytes in every file, with any number of workers.
    More than one worker starts fresh processes, so a script calls this under
    ``if __name__ == "__main__"``.

    Args:
        out: A new or empty folder; it appears when everything is written.
        images: Number of images, 50 or more.
        seed: 0 or more.
        val_share: Share of the images in the val split, between 0 and 1.
        size: Width and height of the images in pixels, 32 to 512.
        workers: Drawing processes; one per core if left out, at most one per 500 images.
        progress: Whether to show a progress bar.

    Raises:
        CIRError: If an option is out of range, ``out`` is not empty, or the files cannot be
            written.
    """
    out = Path(out)
    _check(images, size, val_share, workers, seed)
    _check_target(out)
    if workers is None:
        workers = max(min(_available_cores(), images // 500), 1)
    with _whole(out) as root:
        for name in ("captions", "image_splits", "images", "meta"):
            (root / name).mkdir()
        summary = write_annotations(root, out, images=images, seed=seed, share=val_share)
        _draw_all(
            root / "images",
            images=images,
            seed=seed,
            size=size,
            workers=workers,
            progress=progress,
        )
    return summary
