from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.samplers import Hardest, InBatch
from cir_plugins.builtin.similarity import best_token, unit
from cir_plugins.mining.blocks import Block, blocks
from cir_plugins.mining.negatives import negatives_of_embeddings
from cir_plugins.mining.relevance import Columns, relevance_of_columns
from cir_plugins.retrieval.scores import rows_per_block, score
from dqe_plugin.sampler import TargetRelative

CPU = torch.device("cpu")


def blocks_of(
    queries: Tensor | None,
    targets: Tensor | None,
    target: Tensor,
    excluded_columns: list[list[int]],
    sampler: Any,
    rows: range | None = None,
    size: int | None = None,
) -> list[Block]:
    """Blocks as training makes them, of 30 or so candidates."""
    candidates = 30 if targets is None else len(targets)
    return list(
        blocks(
            None
            if queries is None or targets is None
            else lambda rows: score(queries[rows], targets, best_token),
            relevance_of_columns(target, Columns.of(excluded_columns), candidates, CPU),
            sampler,
            rows=rows or range(len(target)),
            candidates=candidates,
            device=CPU,
            size=size,
        )
    )


def made_up(
    count: int, candidates: int, tokens: int = 0
) -> tuple[Tensor, Tensor, Tensor, list[list[int]]]:
    rng = torch.Generator().manual_seed(0)
    shape = (candidates, tokens) if tokens else (candidates,)
    queries = unit(torch.randn(count, 6, generator=rng))
    targets = unit(torch.randn(*shape, 6, generator=rng))
    target = torch.randint(0, candidates, (count,), generator=rng)
    excluded_columns = [
        torch.randperm(candidates, generator=rng)[: index % 4].tolist()
        + [int(target[index])] * (index % 2)
        for index in range(count)
    ]
    return queries, targets, target, excluded_columns


def test_columns_of_a_block_by_hand() -> None:
    columns = Columns.of([[4, 2], [], [7]])
    row, column = columns.block(0, 3)
    assert (row.tolist(), column.tolist()) == ([0, 0, 2], [4, 2, 7])
    row, column = columns.block(1, 3)
    assert (row.tolist(), column.tolist()) == ([1], [7])
    assert Columns.of([[], []]).block(0, 2)[1].tolist() == []


def test_gathered_columns_by_hand() -> None:
    columns = Columns.gathered(torch.tensor([2, 0, 0, 2]), torch.tensor([7, 4, 2, -1]), 4)
    assert columns.starts.tolist() == [0, 2, 2, 3, 3]
    assert columns.columns.tolist() == [4, 2, 7]


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize(
    ("candidates", "size"),
    # Of 200,000 candidates the sampler gets slices of six queries, and tokens come in slices too.
    [(40, 1), (40, 7), (40, 100), (40, None), (200_000, None)],
)
def test_blocks_are_the_sampler_on_the_whole(
    tokens: int, candidates: int, size: int | None
) -> None:
    queries, targets, target, excluded_columns = made_up(23, candidates, tokens)
    excluded = torch.zeros(23, candidates, dtype=torch.bool)
    for row, columns in enumerate(excluded_columns):
        excluded[row, columns] = True
    excluded.scatter_(1, target[:, None], False)
    sampler = TargetRelative(lower=0.1, upper=0.6)
    pieces = blocks_of(queries, targets, target, excluded_columns, sampler, size=size)
    assert all(one.rows.stop == two.rows.start for one, two in pairwise(pieces))
    assert len(pieces) == (-(-23 // size) if size else 1 if candidates == 40 else 2)
    scores = torch.cat([block.scores for block in pieces if block.scores is not None])
    torch.testing.assert_close(scores, best_token(queries, targets))
    expected, fallback = sampler.negatives_and_fallback(scores, target, excluded)
    assert torch.equal(torch.cat([block.mask for block in pieces]), expected)
    marks = [block.fallback for block in pieces if block.fallback is not None]
    assert torch.equal(torch.cat(marks), fallback)


def test_some_rows_equal_those_of_the_whole() -> None:
    queries, targets, target, excluded_columns = made_up(20, 30)
    inputs = queries, targets, target, excluded_columns, Hardest(count=5)
    (whole,) = blocks_of(*inputs)
    (share,) = blocks_of(*inputs, rows=range(6, 13))
    assert share.rows == slice(6, 13)
    assert torch.equal(share.mask, whole.mask[6:13])


def test_a_samplers_mistake_is_taken_back() -> None:
    queries, targets, target, excluded_columns = made_up(12, 30)
    (block,) = blocks_of(
        queries,
        targets,
        target,
        excluded_columns,
        lambda scores, target, excluded: torch.ones_like(excluded),
    )
    for row, columns in enumerate(excluded_columns):
        assert not block.mask[row, [*columns, int(target[row])]].any()
    assert block.fallback is None


def test_without_scores_everything_allowed_is_left() -> None:
    _, _, target, excluded_columns = made_up(12, 30)
    (block,) = blocks_of(None, None, target, excluded_columns, InBatch())
    assert block.scores is None
    for row, columns in enumerate(excluded_columns):
        assert int(block.mask[row].sum()) == 30 - len({*columns, int(target[row])})


def test_memory_of_a_block_is_bounded() -> None:
    for candidates in (10, 1000, 20_000, 160_000, 10**6, 10**7, 10**8):
        rows = rows_per_block(candidates, CPU)
        assert rows >= 1
        assert rows == 1 or rows * candidates <= 8_000_000
    assert rows_per_block(20_000, CPU) >= 64


def test_negatives_of_embeddings_come_from_the_blocks() -> None:
    queries, targets, target, excluded_columns = made_up(40, 60)
    sampler = TargetRelative()
    drawn = negatives_of_embeddings(
        *(queries, targets, target),
        sampler=sampler,
        count=3,
        seed=1,
        excluded=Columns.of(excluded_columns),
    )
    (block,) = blocks_of(queries, targets, target, excluded_columns, sampler)
    assert drawn.shape == (40, 3)
    for row, ids in enumerate(drawn.tolist()):
        assert {column for column in ids if column >= 0} <= set(
            block.mask[row].nonzero().flatten().tolist()
        )
        assert (ids[0] >= 0) == bool(block.mask[row].any())


@pytest.mark.parametrize("queries", [0, 2])
def test_no_candidate_is_an_error(queries: int) -> None:
    """It ended in a ZeroDivisionError."""
    target = torch.zeros(queries, dtype=torch.long)
    with pytest.raises(ValueError, match="there are 0 candidates; accepted: 1 or more"):
        negatives_of_embeddings(
            torch.zeros(queries, 4), torch.zeros(0, 4), target, sampler=InBatch(), count=1
        )


def test_a_samplers_mask_of_floats_is_an_error() -> None:
    queries, targets, target, excluded_columns = made_up(12, 30)
    with pytest.raises(ValueError, match=r"must return a mask \(12, 30\) of bool, not .*float32"):
        blocks_of(
            queries, targets, target, excluded_columns, lambda scores, target, excluded: scores
        )
