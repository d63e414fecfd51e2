"""The training loader: plans go to worker processes, batches come back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from cir_plugins.data import BatchPlan, BatchSource
from cir_plugins.encode import Encoding
from cir_plugins.types import Batch


class Loader:
    """Batches from plans, made in worker processes that live as long as the loader.

    Args:
        source: Makes a batch from its plan.
        encoding: Device and number of workers.
    """

    def __init__(self, source: BatchSource, encoding: Encoding) -> None:
        self._plans: list[BatchPlan] = []
        self._loader: DataLoader[Batch] = DataLoader(
            source,
            batch_size=None,
            sampler=_Plans(self),
            num_workers=encoding.workers,
            persistent_workers=encoding.workers > 0,
        )

    @property
    def plans(self) -> Sequence[BatchPlan]:
        """The plans of the current epoch."""
        return self._plans

    def epoch(self, plans: list[BatchPlan]) -> Iterator[Batch]:
        """The batches of the plans, in order."""
        self._plans = plans
        return iter(self._loader)


class _Plans(torch.utils.data.Sampler[BatchPlan]):
    """Hands the current epoch's plans to the workers: what a batch needs comes as an argument."""

    def __init__(self, loader: Loader) -> None:
        self._owner = loader

    def __iter__(self) -> Iterator[BatchPlan]:
        return iter(self._owner.plans)

    def __len__(self) -> int:
        return len(self._owner.plans)
