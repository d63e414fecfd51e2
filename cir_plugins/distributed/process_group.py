"""The processes that train one model together: who does what, and what they tell one another.

Every process knows the whole plan of a batch, embeds its own part of it and learns the others'
embeddings, so that all compute the same loss. One process alone exchanges nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cir_plugins.distributed.rendezvous import Rendezvous, agreement
from cir_plugins.errors import CIRError, SharedError
from cir_plugins.features import each

BUCKET = 2**24  # numbers summed at a time over the processes
# How long the others wait for one of them, such as the first one while it validates.
PATIENCE = timedelta(hours=12)
V = TypeVar("V")


@dataclass(frozen=True)
class ProcessGroup:
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
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def slices(self, count: int, chunk: int) -> list[range]:
        """Ranges of ``chunk`` of ``count`` rows; one per process where ``chunk`` is 0."""
        step = chunk or max(1, -(-count // self.size))
        return [range(start, min(start + step, count)) for start in range(0, count, step)]

    def counts(self, count: int, chunk: int = 0) -> list[int]:
        """How many of ``count`` rows each process has."""
        parts = self.slices(count, chunk)
        return [sum(map(len, self.assigned(parts, rank))) for rank in range(self.size)]

    def shard(self, count: int, chunk: int = 0) -> range:
        """Which of ``count`` rows this process has."""
        counts = self.counts(count, chunk)
        start = sum(counts[: self.rank])
        return range(start, start + counts[self.rank])

    def assigned(self, parts: Sequence[V], rank: int | None = None) -> Sequence[V]:
        """The parts of a process, by default this one: a run of them, the runs in order of rank."""
        number = self.rank if rank is None else rank
        return parts[len(parts) * number // self.size : len(parts) * (number + 1) // self.size]

    def all_gather(self, own: Any, counts: Sequence[int]) -> Any:
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
        empty = self.broadcast(lambda: known, source)
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

    def all_reduce_max(self, values: Tensor) -> Tensor:
        """The highest value of all processes in each place, on the CPU."""
        if self.size == 1:
            return values
        shared = values.to(self.device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return shared.cpu()

    def broadcast(self, make: Callable[[], V], source: int = 0) -> V:
        """What ``make`` gives in process ``source``; it is called in no other.

        Raises:
            SharedError: In all processes, if ``make`` raises a ``CIRError`` in that one.
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
            raise SharedError(found[1])
        value: V = found[0]
        return value

    @contextmanager
    def synchronise_errors(self) -> Iterator[None]:
        """A context without exchanges at whose end an error of one process is one of all.

        Raises:
            SharedError: In all processes, that of the first process which has one.
        """
        if self.size == 1:
            yield
            return
        with agreement(self._messages):
            yield

    def _messages(self, message: str) -> list[str]:
        """The message of each process, in order of rank; none where all of them are empty."""
        bad = torch.tensor([int(bool(message))], device=self.device)
        dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        return self.all_gather_object(message) if int(bad) else []

    def synchronised(self, items: Iterator[V]) -> Iterator[V]:
        """The items, of which every process has as many.

        Raises:
            SharedError: In all processes, when making an item raises a ``CIRError`` in one.
        """
        while True:
            with self.synchronise_errors():
                item = list(islice(items, 1))
            if not item:
                return
            yield item[0]

    def all_gather_object(self, value: V) -> list[V]:
        """The value of each process, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
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


@contextmanager
def open_process_group(
    rank: int, size: int, device: torch.device, rendezvous: Rendezvous | None = None
) -> Iterator[ProcessGroup]:
    """A context with the processes that ``torchrun`` started, on its address.

    Args:
        rank: Number of this process.
        size: How many there are; 1 for this one alone, without a process group.
        device: ``cuda``, where each process has the GPU of its local rank, or ``cpu``.
        rendezvous: Where the processes have met already.

    Raises:
        CIRError: If there is no address, no GPU for this process, or no way to exchange tensors;
            where they have met, a ``SharedError`` in all processes.
    """
    if size == 1:
        yield ProcessGroup()
        return
    with nullcontext() if rendezvous is None else rendezvous.synchronise_errors():
        _take_device(rank, device)
    met = rendezvous or Rendezvous.of(rank, size)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=met.store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield ProcessGroup(rank, size, torch.device(device.type))
    finally:
        dist.destroy_process_group()


def _take_device(rank: int, device: torch.device) -> None:
    if device.type not in ("cpu", "cuda"):
        raise CIRError(f"several processes cannot train on {device.type}; accepted: cpu, cuda")
    if device.type == "cuda":
        local, there = int(os.environ.get("LOCAL_RANK", rank)), torch.cuda.device_count()
        if local >= there:
            raise CIRError(
                f"process {local} of this machine has no GPU; accepted: --nproc-per-node {there}"
            )
        torch.cuda.set_device(local)


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
