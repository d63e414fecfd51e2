"""Where processes tell one another what is wrong before they can exchange tensors, and after."""

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

# How long a process waits for the others to come; those of other machines may load for long.
COMING = timedelta(minutes=30)
# How long one that ends with an error waits for the first to tell it.
LEAVING = timedelta(minutes=1)


@dataclass(frozen=True)
class Rendezvous:
    """This process among those that ``torchrun`` started.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        store: What all of them read and write; None for one process alone.
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
            size: How many there are; 1 for this one alone.

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
            store, _, _ = next(torch_rendezvous("env://", rank, size, timeout=COMING))
        except (ValueError, RuntimeError) as error:  # those of the address and of the network
            raise CIRError(
                f"process {rank} of {size} cannot meet the others at {address}: {error}\n"
                "accepted: torchrun, which sets MASTER_ADDR and MASTER_PORT"
            ) from error
        return cls(rank, size, store)

    def listed(self, message: str = "", patience: timedelta = COMING) -> list[str]:
        """The message of each process, in order of rank, once all have read them.

        Raises:
            RuntimeError: If one of the others does not come in time.
        """
        if self.store is None:
            return [message]
        place = f"cir/{next(self._round)}"
        self.store.set(f"{place}/said{self.rank}", message)
        said = [f"{place}/said{rank}" for rank in range(self.size)]
        self.store.wait(said, patience)
        found = [self.store.get(name).decode() for name in said]
        self.store.set(f"{place}/heard{self.rank}", "")
        if self.rank == 0:  # the store may live in this process and end with it
            heard = [f"{place}/heard{rank}" for rank in range(self.size)]
            self.store.wait(heard, patience)
        return found

    @contextmanager
    def synchronise_errors(self) -> Iterator[None]:
        """A context that ends with an error in all processes when it does so in one.

        Raises:
            SharedError: In all processes, that of the first process which has one.
        """
        if self.store is None:
            yield
            return
        with agreement(self.listed):
            yield


@contextmanager
def agreement(listed: Callable[[str], Iterable[str]]) -> Iterator[None]:
    """A context that ends with an error in all processes when it does so in one.

    Args:
        listed: From this process's message, empty for none, those of all in order of rank.

    Raises:
        SharedError: In all processes, that of the first process which has one.
    """
    message = ""
    try:
        yield
    except CIRError as error:
        message = str(error)
    found = next(filter(None, listed(message)), "")
    if found:
        raise SharedError(found)


def rank_and_world_size() -> tuple[int, int]:
    """RANK and WORLD_SIZE as ``torchrun`` sets them; (0, 1) without it.

    Raises:
        CIRError: If they are no such numbers.
    """
    rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdigit() and processes.isdigit() and int(rank) < int(processes)):
        raise CIRError(f"RANK={rank} and WORLD_SIZE={processes}; accepted: 0 <= RANK < WORLD_SIZE")
    return int(rank), int(processes)
