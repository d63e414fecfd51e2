"""The training loader: plans go to worker processes, batches come back in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from cir_plugins.data import BatchPlan, BatchSource
from cir_plugins.encode import Encoding, Guarded, unguarded
from cir_plugins.types import Batch


class Loader:
    """Batches from plans, made in worker processes that live as long as the loader.

    Args:
        source: Makes a batch from its plan.
        encoding: Device and number of workers.
    """

    def __init__(self, source: BatchSource, encoding: Encoding) -> None:
        self._plans = _Plans()
        self._loader: DataLoader[Batch] = DataLoader(
            Guarded(source),
            batch_size=None,
            sampler=self._plans,
            num_workers=encoding.workers,
            persistent_workers=encoding.workers > 0,
            # Its own: persistent workers draw a seed once, others every epoch, and torch's
            # generator must be in the same state after a resume.
            generator=torch.Generator(),
        )

    def epoch(self, plans: list[BatchPlan]) -> Iterator[Batch]:
        """The batches of the plans, in order."""
        self._plans.current = plans
        return map(unguarded, self._loader)


class _Plans(torch.utils.data.Sampler[BatchPlan]):
    """Hands the current epoch's plans to the workers: what a batch needs comes as an argument.

    It does not know the loader: in a cycle the workers would live until the garbage collector
    came, and then not hear that they should end, at five seconds each.
    """

    def __init__(self) -> None:
        self.current: Sequence[BatchPlan] = ()

    def __iter__(self) -> Iterator[BatchPlan]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)
