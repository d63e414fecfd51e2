"""Images of files from loader processes, where errors for users and deaths are one message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cir_plugins.data.images import open_image
from cir_plugins.errors import CIRError
from cir_plugins.workers import follow_parent, worker_errors

V = TypeVar("V")


class ImageFiles(Dataset[Tensor]):
    """Preprocessed images (3, H, W) of files."""

    def __init__(self, paths: Sequence[Path], preprocess: Callable[[Any], Tensor]) -> None:
        self.paths = list(paths)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """The image at ``index``."""
        return self.preprocess(open_image(self.paths[index]))


class Guarded(Dataset[Any]):
    """Items of a data set, where a ``CIRError`` is an item too.

    Raised in a worker it would reach the user with the worker's traceback in its message.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        """The item, or the error instead of it."""
        try:
            return self.source[index]
        except CIRError as error:
            return error


def unguarded(item: Any) -> Any:
    """An item of a guarded data set.

    Raises:
        CIRError: If it is one.
    """
    if isinstance(item, CIRError):
        raise item
    return item


def image_loader(
    paths: Sequence[Path],
    preprocess: Callable[[Any], Tensor],
    *,
    batch_size: int,
    workers: int,
    pinned: bool,
    collate: Callable[[list[Any]], Any],
) -> DataLoader[Any]:
    """The loader of preprocessed images, in order, its items guarded.

    Args:
        paths: Files of the images.
        preprocess: From a picture to a tensor (3, H, W).
        batch_size: Images a batch.
        workers: Loader processes, at most one for each batch.
        pinned: Whether batches are in page-locked memory.
        collate: Makes a batch of items, among which may be errors.
    """
    return DataLoader(
        Guarded(ImageFiles(paths, preprocess)),
        batch_size=batch_size,
        num_workers=min(workers, -(-len(paths) // batch_size)),
        pin_memory=pinned,
        collate_fn=collate,
        worker_init_fn=follow_parent,
        generator=torch.Generator(),
    )


def loaded(loader: DataLoader[V]) -> Iterator[V]:
    """The items of a loader, whose workers start at once, in the thread of the caller.

    Raises:
        CIRError: If a worker was killed.
    """
    return _items(iter(loader))


def _items(items: Iterator[V]) -> Iterator[V]:
    while True:
        with worker_errors():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
