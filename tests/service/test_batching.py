from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from cir_plugins.errors import CIRError
from cir_plugins.service.batching import Batcher, BusyError


def doubled(queries: Sequence[int]) -> list[int]:
    if any(query < 0 for query in queries):
        raise CIRError("a number below 0")
    return [2 * query for query in queries]


def test_queries_gather_while_a_batch_is_computed() -> None:
    """One at a time, 32 clients would wait for 32 forward passes."""
    begun, go_on = threading.Event(), threading.Event()

    def answer(queries: Sequence[int]) -> list[int]:
        begun.set()
        go_on.wait(10)
        return doubled(queries)

    async def main() -> tuple[list[int], int]:
        batcher: Batcher[int, int] = Batcher(answer, most=4, waiting=99)
        first = asyncio.create_task(batcher.answer(0))
        await asyncio.to_thread(begun.wait, 10)
        others = [asyncio.create_task(batcher.answer(query)) for query in range(1, 10)]
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(first, *others)
        await batcher.close()
        return list(answers), batcher.batches

    answers, batches = asyncio.run(main())
    assert answers == [2 * query for query in range(10)]
    assert batches == 4  # 1, then 4, 4, 1


def test_a_refused_query_harms_no_other() -> None:
    async def main() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(doubled, most=8, waiting=99)
        answers = await asyncio.gather(
            *(batcher.answer(query) for query in (1, -1, 2, -2, 3)), return_exceptions=True
        )
        await batcher.close()
        return list(answers)

    answers = asyncio.run(main())
    assert [each for each in answers if isinstance(each, int)] == [2, 4, 6]
    assert [str(each) for each in answers if isinstance(each, CIRError)] == ["a number below 0"] * 2


def test_a_fault_reaches_its_caller_and_the_next_is_answered() -> None:
    def answer(queries: Sequence[int]) -> list[int]:
        if 7 in queries:
            raise RuntimeError("out of memory")
        return doubled(queries)

    async def main() -> int:
        batcher: Batcher[int, int] = Batcher(answer, most=8, waiting=99)
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.answer(7)
        answered = await batcher.answer(1)
        await batcher.close()
        return answered

    assert asyncio.run(main()) == 2


def test_too_many_queries_are_sent_away() -> None:
    async def main() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(doubled, most=1, waiting=3)
        answers = await asyncio.gather(
            *(batcher.answer(query) for query in range(9)), return_exceptions=True
        )
        await batcher.close()
        return list(answers)

    answers = asyncio.run(main())
    assert answers[:3] == [0, 2, 4]
    assert all(isinstance(each, BusyError) for each in answers[3:])


def test_queries_of_clients_that_have_gone_are_not_computed() -> None:
    seen: list[int] = []

    def answer(queries: Sequence[int]) -> list[int]:
        seen.extend(queries)
        return doubled(queries)

    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(answer, most=1, waiting=9)
        tasks = [asyncio.create_task(batcher.answer(query)) for query in range(3)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        assert await asyncio.gather(*tasks[:2]) == [0, 2]
        await batcher.close()

    asyncio.run(main())
    assert seen == [0, 1]
