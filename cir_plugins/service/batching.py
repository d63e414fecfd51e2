"""Concurrent queries, encoded together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from cir_plugins.errors import CIRError

Q = TypeVar("Q")
A = TypeVar("A")


class BusyError(Exception):
    """More queries wait than may wait."""


class Batcher(Generic[Q, A]):
    """Answers to queries that come one by one, computed in batches by one thread.

    While a batch is computed the next queries gather; nobody waits for a batch to fill. One query
    that is refused harms no other of its batch.

    Args:
        answer: Answers of several queries, one each in their order.
        most: Queries of a batch.
        waiting: Queries that may wait.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Sequence[A]], *, most: int, waiting: int
    ) -> None:
        self._answer = answer
        self._most = most
        self._waiting = waiting
        self._queue: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.queries = 0

    async def answer(self, query: Q) -> A:
        """The answer to a query.

        Raises:
            BusyError: If too many queries wait.
            CIRError: If the query is refused.
        """
        if len(self._queue) >= self._waiting:
            raise BusyError
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append((query, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """End the thread, once what waits is answered."""
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            queries = [query for query, _ in batch]
            self.batches += 1
            self.queries += len(queries)
            try:
                answers = await loop.run_in_executor(self._thread, self._answers, queries)
            except Exception as error:  # a fault of a component: each of its callers gets it
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():  # its client has gone
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _next(self) -> list[tuple[Q, asyncio.Future[A]]]:
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        while self._queue and len(batch) < self._most:
            query, future = self._queue.popleft()
            if not future.done():
                batch.append((query, future))
        return batch

    def _answers(self, queries: Sequence[Q]) -> list[A | Exception]:
        try:
            return list(self._answer(queries))
        except CIRError as error:
            if len(queries) == 1:
                return [error]
        return [self._answers([query])[0] for query in queries]
