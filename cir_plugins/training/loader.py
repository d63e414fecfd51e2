"""The training loader: plans go to worker processes, batches come back in order, ready for a step.

On CUDA a thread makes batches ready ahead of the steps: it reads their features and puts all into
page-locked memory, so that neither reading nor copying waits for a step or makes one wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch.utils.data import DataLoader

from cir_plugins.data.batches import BatchPlan, BatchSource
from cir_plugins.encoding.device import pin_batch
from cir_plugins.encoding.features import Encoding, TrainingFeatures
from cir_plugins.encoding.loading import Guarded, loaded, unguarded
from cir_plugins.types import Batch
from cir_plugins.workers import follow_parent

AHEAD = 2  # batches that are made ready before they are needed
V = TypeVar("V")
W = TypeVar("W")


class Loader:
    """Batches from plans, made in worker processes that live as long as the loader.

    Args:
        source: Makes a batch from its plan.
        encoding: Device and number of workers.
        features: Of the images, for batches that come without pixels.
    """

    def __init__(
        self, source: BatchSource, encoding: Encoding, features: TrainingFeatures | None = None
    ) -> None:
        self._plans = _Plans()
        self._features = features
        self._pinned = encoding.device.type == "cuda"
        self._loader: DataLoader[Batch] = DataLoader(
            Guarded(source),
            batch_size=None,
            sampler=self._plans,
            num_workers=encoding.workers,
            persistent_workers=encoding.workers > 0,
            worker_init_fn=follow_parent,
            # Its own: persistent workers draw a seed once, others every epoch, and torch's
            # generator must be in the same state after a resume.
            generator=torch.Generator(),
        )

    def epoch(self, plans: list[BatchPlan]) -> Iterator[Batch]:
        """The batches of the plans, in order."""
        self._plans.current = plans
        batches = map(unguarded, loaded(self._loader))
        if self._pinned:
            return ahead(batches, self._ready, AHEAD)
        return map(self._ready, batches)

    def _ready(self, batch: Batch) -> Batch:
        if self._features is not None:
            if batch.image_index is None:
                raise ValueError("a batch without image_index cannot use cached features")
            batch.features = self._features[batch.image_index]
        return pin_batch(batch) if self._pinned else batch


def ahead(items: Iterator[V], make: Callable[[V], W], count: int) -> Iterator[W]:
    """Results of ``make`` for each item, in order, made in a thread up to ``count`` items early.

    Args:
        items: Advanced in that thread too.
        make: Its errors and those of ``items`` come out where the item would.
        count: Items made before they are needed, 1 or more.
    """
    end = object()

    def following() -> W | object:
        item = next(items, end)
        return end if item is end else make(item)  # type: ignore[arg-type]

    with ThreadPoolExecutor(1, initializer=_same_gpu(), initargs=()) as thread:
        pending: deque[Future[W | object]] = deque(thread.submit(following) for _ in range(count))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(following))
            yield item  # type: ignore[misc]


def _same_gpu() -> Callable[[], None]:
    """A function that gives another thread this thread's GPU, which each thread sets alone."""
    if not torch.cuda.is_available():
        return lambda: None
    device = torch.cuda.current_device()
    return lambda: torch.cuda.set_device(device)


class _Plans(torch.utils.data.Sampler[BatchPlan]):
    """The current epoch's plans, for the workers: what a batch needs comes as an argument.

    It has no reference to the loader: in a cycle the workers would live until the garbage collector
    came, and then end by a timeout only, at five seconds each.
    """

    def __init__(self) -> None:
        self.current: Sequence[BatchPlan] = ()

    def __iter__(self) -> Iterator[BatchPlan]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)
