"""The process group of a training run: which rows a process has, and the collectives.

Every process knows the whole plan of a batch, embeds its own shard and gathers the embeddings of
the others, so that all compute the same loss. One process alone exchanges nothing.
"""

from __future__ import annotations

import math
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

from cir_plugins.distributed.rendezvous import Rendezvous, shared_errors
from cir_plugins.errors import CIRError, SharedError
from cir_plugins.features import each

GRADIENT_BUCKET = 2**24  # gradient entries summed over the processes at a time
# Minutes that a collective waits for another process, such as the first one while it validates.
TIMEOUT = "CIR_TIMEOUT_MINUTES"
_TIMEOUT_MINUTES = "120"
# Words in the errors of backends (RuntimeErrors without a class of their own) on a lost process.
_LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out", "NCCL", "gloo")
V = TypeVar("V")


@dataclass(frozen=True)
class ProcessGroup:
    """This process and the number of those that train one model together.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        device: Where tensors are exchanged; None for one process alone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def slices(self, count: int, slice_size: int) -> list[range]:
        """Ranges of ``slice_size`` of ``count`` rows; one per process where ``slice_size`` is 0."""
        step = slice_size or max(1, -(-count // self.size))
        return [range(start, min(start + step, count)) for start in range(0, count, step)]

    def shard_sizes(self, count: int, slice_size: int = 0) -> list[int]:
        """Number of rows of each process, of ``count`` in all."""
        slices = self.slices(count, slice_size)
        return [sum(map(len, self.shard_of(slices, rank))) for rank in range(self.size)]

    def shard(self, count: int, slice_size: int = 0) -> range:
        """Rows of this process, of ``count`` in all."""
        sizes = self.shard_sizes(count, slice_size)
        start = sum(sizes[: self.rank])
        return range(start, start + sizes[self.rank])

    def shard_of(self, items: Sequence[V], rank: int | None = None) -> Sequence[V]:
        """Consecutive items of a process, by default this one; shards come in order of rank."""
        number = self.rank if rank is None else rank
        return items[len(items) * number // self.size : len(items) * (number + 1) // self.size]

    def all_gather(self, local_rows: Any, sizes: Sequence[int]) -> Any:
        """Rows of all processes in order of rank.

        Args:
            local_rows: Tensor or named tuple of tensors, leading dimension ``sizes[rank]``; None
                where that is 0.
            sizes: Number of rows of each process.
        """
        if self.size == 1:
            return local_rows
        if 0 in sizes:
            source = next(rank for rank, size in enumerate(sizes) if size)
            local_rows = self._rows_or_empty(local_rows, source)
        return each(local_rows, lambda tensor: self._gather(tensor, sizes))

    def _rows_or_empty(self, local_rows: Any, source: int) -> Any:
        """The rows; where there are none, an empty value in the form of process ``source``."""
        form = None if local_rows is None else each(local_rows, lambda tensor: tensor[:0].cpu())
        empty = self.broadcast(lambda: form, source)
        if local_rows is not None:
            return local_rows
        return each(empty, lambda tensor: tensor.to(self.device))

    def _gather(self, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        # As bytes, since not every backend sends every dtype; of one length, as gloo requires.
        shape, dtype = tensor.shape[1:], tensor.dtype
        padded = tensor.new_zeros((max(sizes), *shape))
        padded[: len(tensor)] = tensor
        message = padded.reshape(max(sizes), -1).view(torch.uint8)
        messages = [torch.empty_like(message) for _ in sizes]
        with self._collective():
            dist.all_gather(messages, message)
        shards = [
            shard.view(dtype)[:size].view(size, *shape)
            for shard, size in zip(messages, sizes, strict=True)
        ]
        return torch.cat(shards)

    def all_reduce_max(self, values: Tensor) -> Tensor:
        """Element-wise maximum over the processes, on the CPU."""
        if self.size == 1:
            return values
        maximum = values.to(self.device)
        with self._collective():
            dist.all_reduce(maximum, op=dist.ReduceOp.MAX)
        return maximum.cpu()

    def broadcast(self, make: Callable[[], V], source: int = 0) -> V:
        """The value of ``make`` in process ``source``, the only one that calls it.

        Raises:
            SharedError: In all processes, if ``make`` raises a ``CIRError``.
        """
        if self.size == 1:
            return make()
        message: list[Any] = [None, None]  # value, error
        if self.rank == source:
            try:
                message[0] = make()
            except CIRError as error:
                message[1] = str(error)
        with self._collective():
            dist.broadcast_object_list(message, src=source, device=self.device)
        if message[1] is not None:
            raise SharedError(message[1])
        value: V = message[0]
        return value

    @contextmanager
    def synchronise_errors(self) -> Iterator[None]:
        """A context without collectives; an error of one process is raised in all at its end.

        Raises:
            SharedError: In all processes, that of the lowest rank which has one.
        """
        if self.size == 1:
            yield
            return
        with shared_errors(self._gather_messages):
            yield

    def _gather_messages(self, message: str) -> list[str]:
        """The message of each process, in order of rank; none where all of them are empty."""
        failure = torch.tensor([int(bool(message))], device=self.device)
        with self._collective():
            dist.all_reduce(failure, op=dist.ReduceOp.MAX)
        return self.all_gather_object(message) if int(failure) else []

    def synchronise_items(self, items: Iterator[V]) -> Iterator[V]:
        """The items, of which every process has as many; errors are those of all processes.

        Raises:
            SharedError: In all processes, when making an item raises a ``CIRError`` in one.
        """
        while True:
            with self.synchronise_errors():
                following = list(islice(items, 1))
            if not following:
                return
            yield following[0]

    def all_gather_object(self, value: V) -> list[V]:
        """The value of each process, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._collective():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if not (isinstance(error, dist.DistError) or any(word in text for word in _LOST)):
                raise
            # Not shared: each process that is left prints it, as the first may be the lost one.
            raise CIRError(
                f"process {self.rank} of {self.size} lost another one, which was killed or did not "
                f"respond in {_minutes()} minutes ({TIMEOUT}); the run goes on with --resume"
            ) from error

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; None where no process has one."""
        if self.size == 1:
            return
        trained = list(parameters)
        mask = torch.tensor([int(p.grad is not None) for p in trained], device=self.device)
        with self._collective():
            dist.all_reduce(mask, op=dist.ReduceOp.MAX)
        reduced = [p for p, there in zip(trained, mask.tolist(), strict=True) if there]
        for parameter in reduced:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in reduced if p.grad is not None]):
            vector = torch.cat([gradient.flatten() for gradient in bucket])
            with self._collective():
                dist.all_reduce(vector)
            sums = torch.split(vector, [gradient.numel() for gradient in bucket])
            for gradient, total in zip(bucket, sums, strict=True):
                gradient.copy_(total.view_as(gradient))


@contextmanager
def open_process_group(
    rank: int, size: int, device: torch.device, rendezvous: Rendezvous | None = None
) -> Iterator[ProcessGroup]:
    """A context with the process group of ``torchrun``'s address.

    Args:
        rank: Number of this process.
        size: Number of processes; 1 for this one alone, without a process group.
        device: ``cuda``, where each process has the GPU of its local rank, or ``cpu``.
        rendezvous: The processes' rendezvous; None to open it here.

    Raises:
        CIRError: If there is no address, no GPU for this process, or no way to exchange tensors;
            with a rendezvous, a ``SharedError`` in all processes.
    """
    if size == 1:
        yield ProcessGroup()
        return
    with nullcontext() if rendezvous is None else rendezvous.synchronise_errors():
        _set_device(rank, device)
    timeout = timedelta(minutes=_minutes())
    store = (rendezvous or Rendezvous.of(rank, size)).store
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield ProcessGroup(rank, size, torch.device(device.type))
    finally:
        dist.destroy_process_group()


def _minutes() -> float:
    """Minutes of ``CIR_TIMEOUT_MINUTES``.

    Raises:
        CIRError: If it is not a number above 0.
    """
    text = os.environ.get(TIMEOUT, _TIMEOUT_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise CIRError(f"{TIMEOUT} cannot be '{text}'; accepted: minutes, a number above 0")
    return round(minutes, 2)


def _set_device(rank: int, device: torch.device) -> None:
    if device.type not in ("cpu", "cuda"):
        raise CIRError(f"several processes cannot train on {device.type}; accepted: cpu, cuda")
    if device.type == "cuda":
        local_rank, gpus = int(os.environ.get("LOCAL_RANK", rank)), torch.cuda.device_count()
        if local_rank >= gpus:
            raise CIRError(
                f"process {local_rank} of this machine has no GPU; "
                f"accepted: --nproc-per-node {gpus}"
            )
        torch.cuda.set_device(local_rank)


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype, in order, up to ``GRADIENT_BUCKET`` entries at a time."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        size = sum(g.numel() for g in bucket) + gradient.numel()
        if bucket and (size > GRADIENT_BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
