"""The rendezvous of several processes: a common store, and errors shared through it.

It works before tensors can be exchanged, while configurations and devices are checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

from torch.distributed.rendezvous import rendezvous as torch_rendezvous

from cir_plugins.errors import CIRError, SharedError

# How long a process waits for the others to start; those of other machines may load for long.
JOIN_TIMEOUT = timedelta(minutes=30)
# How long a process that ends with an error waits for the first one to print it.
EXIT_TIMEOUT = timedelta(minutes=1)


@dataclass(frozen=True)
class Rendezvous:
    """This process among those that ``torchrun`` started.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        store: Key-value store of all processes; None for one process alone.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    _round: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    @classmethod
    def of(cls, rank: int, size: int) -> Rendezvous:
        """The rendezvous on torchrun's address.

        Args:
            rank: Number of this process.
            size: Number of processes; 1 for this one alone.

        Raises:
            CIRError: If there is no address, or no rendezvous there.
        """
        if size == 1:
            return cls()
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise CIRError(f"WORLD_SIZE is {size} without {', '.join(missing)}; accepted: torchrun")
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        try:
            store, _, _ = next(torch_rendezvous("env://", rank, size, timeout=JOIN_TIMEOUT))
        except (ValueError, RuntimeError) as error:  # those of the address and of the network
            raise CIRError(
                f"process {rank} of {size} cannot meet the others at {address}: {error}\n"
                "accepted: torchrun, which sets MASTER_ADDR and MASTER_PORT"
            ) from error
        return cls(rank, size, store)

    def all_gather_messages(
        self, message: str = "", timeout: timedelta = JOIN_TIMEOUT
    ) -> list[str]:
        """The message of each process, in order of rank, once all have read them.

        Raises:
            RuntimeError: If a process has not written its message in time.
        """
        if self.store is None:
            return [message]
        prefix = f"cir/{next(self._round)}"
        messages = [f"{prefix}/message{rank}" for rank in range(self.size)]
        receipts = [f"{prefix}/receipt{rank}" for rank in range(self.size)]
        self.store.set(messages[self.rank], message)
        self.store.wait(messages, timeout)
        texts = [self.store.get(key).decode() for key in messages]
        self.store.set(receipts[self.rank], "")
        if self.rank == 0:  # the store may live in this process and end with it
            self.store.wait(receipts, timeout)
        return texts

    @contextmanager
    def synchronise_errors(self) -> Iterator[None]:
        """A context; an error of one process is raised in all at its end.

        Raises:
            SharedError: In all processes, that of the lowest rank which has one.
        """
        if self.store is None:
            yield
            return
        with shared_errors(self.all_gather_messages):
            yield


@contextmanager
def shared_errors(all_gather: Callable[[str], Iterable[str]]) -> Iterator[None]:
    """A context; an error of one process is raised in all at its end.

    Args:
        all_gather: Messages of all processes in order of rank, from that of this process; an
            empty message stands for no error.

    Raises:
        SharedError: In all processes, that of the lowest rank which has one.
    """
    message = ""
    try:
        yield
    except CIRError as error:
        message = str(error)
    first = next(filter(None, all_gather(message)), "")
    if first:
        raise SharedError(first)


def rank_and_world_size() -> tuple[int, int]:
    """RANK and WORLD_SIZE as ``torchrun`` sets them; (0, 1) without it.

    Raises:
        CIRError: If they are no such numbers.
    """
    rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdigit() and processes.isdigit() and int(rank) < int(processes)):
        raise CIRError(f"RANK={rank} and WORLD_SIZE={processes}; accepted: 0 <= RANK < WORLD_SIZE")
    return int(rank), int(processes)
