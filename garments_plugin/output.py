"""Folders of drawn pictures, written whole or not at all, and the processes that draw."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from cir_plugins import CIRError, follow_parent
from garments_plugin.draw import draw_garment
from garments_plugin.kinds import Garment

SIZES = (32, 512)
_BATCH = 50
_LOCK = ".lock"

GarmentAt: TypeAlias = Callable[[int, int], tuple[Garment, np.random.Generator]]
"""(seed, number of the image) -> what it shows, and the randomness that draws it; of a module, so
that another process can call it."""


def _draw_batch(
    paths: Sequence[Path], garment_at: GarmentAt, seed: int, first: int, size: int
) -> int:
    """Draw and write the images from number ``first``; return how many."""
    for number, path in enumerate(paths, first):
        garment, rng = garment_at(seed, number)
        picture = draw_garment(garment, rng, size)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=int(rng.integers(82, 95)))
        path.write_bytes(data.getvalue())
    return len(paths)


def draw_all(
    paths: Sequence[Path],
    garment_at: GarmentAt,
    *,
    seed: int,
    size: int,
    workers: int | None,
    progress: bool,
) -> None:
    """Draw the images of a set, one for each path, as JPEG.

    Args:
        paths: Where each image goes; its number is its place.
        garment_at: What an image shows.
        seed: Seed of the set.
        size: Width and height in pixels.
        workers: Drawing processes; None for one per core, at most one per 500 images.
        progress: Whether a bar is shown.
    """
    if workers is None:
        workers = max(min(_available_cores(), len(paths) // 500), 1)
    starts = range(0, len(paths), _BATCH)
    batches = [(paths[at : at + _BATCH], garment_at, seed, at, size) for at in starts]
    with tqdm(total=len(paths), unit="image", disable=not progress, desc="drawing") as bar:
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


def write_json(path: Path, value: list[Any] | dict[str, Any]) -> None:
    """Write one entry per line: easy to read, and quicker to make than an indented tree."""
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()]
        left, right = "{", "}"
    else:
        lines = [json.dumps(entry) for entry in value]
        left, right = "[", "]"
    text = left + "\n" + ",\n".join(lines) + "\n" + right + "\n"
    path.write_text(text, encoding="utf-8")


def check_numbers(
    images: int, least: int, size: int, val_share: float, workers: int | None, seed: int
) -> None:
    """Check what every generator of pictures takes.

    Raises:
        CIRError: If a number is out of range.
    """
    if images < least:
        raise CIRError(f"images is {images}; accepted: {least} or more")
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
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside ``out`` that becomes ``out`` if the block ends well.

    Raises:
        CIRError: If ``out`` is in use, or the files cannot be written.
    """
    _check_target(out)
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
