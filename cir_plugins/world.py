"""The processes that train one model together: who does what, and what they tell one another.

Every process knows the whole plan of a batch, embeds its own part of it and learns the others'
embeddings, so that all compute the same loss. One process alone exchanges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cir_plugins.errors import CIRError
from cir_plugins.features import each

BUCKET = 2**24  # numbers summed at a time over the processes
V = TypeVar("V")


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        device: Where tensors are exchanged; None for one process alone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def parts(self, count: int, chunk: int) -> list[range]:
        """Ranges of ``chunk`` of ``count`` rows; one per process where ``chunk`` is 0."""
        step = chunk or max(1, -(-count // self.size))
        return [range(start, min(start + step, count)) for start in range(0, count, step)]

    def own(self, parts: Sequence[V], rank: int | None = None) -> Sequence[V]:
        """The parts of a process, by default this one: a run of them, the runs in order of rank."""
        number = self.rank if rank is None else rank
        return parts[len(parts) * number // self.size : len(parts) * (number + 1) // self.size]

    def gather(self, own: Any, counts: Sequence[int]) -> Any:
        """Rows of all processes in order of rank.

        Args:
            own: Tensor or named tuple of tensors, leading dimension ``counts[rank]``; None where
                that is 0.
            counts: Rows of each process.
        """
        if self.size == 1:
            return own
        if 0 in counts:
            own = self._shaped(own, next(rank for rank, count in enumerate(counts) if count))
        return each(own, lambda part: self._gather(part, counts))

    def _shaped(self, own: Any, source: int) -> Any:
        """Rows as they are, or no rows of the shape that process ``source`` has."""
        known = None if own is None else each(own, lambda part: part[:0].cpu())
        empty = self.told(lambda: known, source)
        return each(empty, lambda part: part.to(self.device)) if own is None else own

    def _gather(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        # As bytes, since not every backend sends every dtype; of one length, since gloo wants that.
        shape, dtype = part.shape[1:], part.dtype
        sent = part.new_zeros((max(counts), *shape))
        sent[: len(part)] = part
        flat = sent.reshape(max(counts), -1).view(torch.uint8)
        all_rows = [torch.empty_like(flat) for _ in counts]
        dist.all_gather(all_rows, flat)
        rows = [
            got.view(dtype)[:count].view(count, *shape)
            for got, count in zip(all_rows, counts, strict=True)
        ]
        return torch.cat(rows)

    def told(self, make: Callable[[], V], source: int = 0) -> V:
        """What ``make`` gives in process ``source``; it is called in no other.

        Raises:
            CIRError: In all processes, if ``make`` raises it in that one.
        """
        if self.size == 1:
            return make()
        found: list[Any] = [None, None]
        if self.rank == source:
            try:
                found[0] = make()
            except CIRError as error:
                found[1] = str(error)
        dist.broadcast_object_list(found, src=source, device=self.device)
        if found[1] is not None:
            raise CIRError(found[1])
        value: V = found[0]
        return value

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A context without exchanges at whose end an error of one process is one of all.

        Raises:
            CIRError: In all processes, that of the first process which has one.
        """
        if self.size == 1:
            yield
            return
        message = ""
        try:
            yield
        except CIRError as error:
            message = str(error)
        bad = torch.tensor([int(bool(message))], device=self.device)
        dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        if int(bad):
            raise CIRError(next(filter(None, self.listed(message))))

    def listed(self, value: V) -> list[V]:
        """The value of each process, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make each gradient the sum of those of all processes; none where no process has one."""
        if self.size == 1:
            return
        trained = list(parameters)
        there = torch.tensor([int(p.grad is not None) for p in trained], device=self.device)
        dist.all_reduce(there, op=dist.ReduceOp.MAX)
        wanted = [p for p, has in zip(trained, there.tolist(), strict=True) if has]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in wanted if p.grad is not None]):
            flat = torch.cat([grad.flatten() for grad in bucket])
            dist.all_reduce(flat)
            for grad, total in zip(
                bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True
            ):
                grad.copy_(total.view_as(grad))


def _buckets(grads: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype, in order, up to ``BUCKET`` numbers at a time."""
    bucket: list[Tensor] = []
    for grad in grads:
        full = sum(g.numel() for g in bucket) + grad.numel() > BUCKET
        if bucket and (full or grad.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket
