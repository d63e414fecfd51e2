"""Negatives of queries from scores or embeddings, and a shared table of them.

Imports torch alone, so that any contrastive project can use it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cir_plugins.mining.blocks import Block, blocks, blocks_of_scores
from cir_plugins.mining.draw import draw
from cir_plugins.mining.relevance import (
    Columns,
    Relevance,
    RelevanceOf,
    relevance_of_positives,
)
from cir_plugins.mining.report import PoolStatistics
from cir_plugins.retrieval.counting import count_true
from cir_plugins.retrieval.scores import Similarity, score

Excluded = Tensor | Columns | Callable[[slice], Tensor]


def negatives_of_scores(
    scores: Tensor,
    positives: Tensor,
    sampler: Any,
    *,
    count: int,
    excluded: Tensor | None = None,
    seed: int = 0,
    epoch: int = 0,
    first_row: int = 0,
    complete: bool = False,
) -> Tensor:
    """Columns (Q, count) int64 of each row's negatives, -1 behind the last where there are fewer.

    Drawn without replacement from what the sampler leaves, by a hash of seed, epoch and row:
    blocks, devices and the order of calls change nothing. Training draws the same.

    Args:
        scores: (Q, N) float, higher is closer, N at least 1; -inf is padding and never a negative.
        positives: (Q,) int column of the target (-1: none), or (Q, N) bool. Of several
            positives the best scored is the target and none is a negative. A row without any has
            no negatives.
        sampler: A ``cir_plugins.Sampler``: ``(scores, target, excluded) -> (Q, N) bool``.
        count: Negatives per row, at least 1.
        excluded: (Q, N) bool, further candidates that may never be negatives.
        seed: Seed of the draw.
        epoch: Another epoch draws anew.
        first_row: Number of the first row, where the scores are a block of a larger matrix.
        complete: Repeat a short row's negatives until it is full. A row where nothing qualifies
            draws from what is not excluded: from below its target, or from all of it where
            nothing lies there. Needed where every row must be of one length. Warns where the
            sampler left most rows short; ``negative_pool_report`` has the numbers.

    Raises:
        ValueError: If a shape, a dtype or a column does not fit, if there is no candidate, or if
            ``complete`` meets a row with nothing to draw.
    """
    mined = blocks_of_scores(scores, positives, sampler, excluded=excluded, first_row=first_row)
    ids, _ = _drawn(mined, scores, count, seed, epoch, first_row, complete, None)
    return ids


def negatives_of_embeddings(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor | None = None,
    *,
    sampler: Any,
    count: int,
    labels: tuple[Tensor, Tensor] | None = None,
    itself: bool | None = None,
    excluded: Excluded | None = None,
    similarity: Similarity | None = None,
    seed: int = 0,
    epoch: int = 0,
    complete: bool = False,
    block: int | None = None,
    statistics: PoolStatistics | None = None,
) -> Tensor:
    """Columns (Q, count) int64 of each query's negatives among the candidates.

    As ``negatives_of_scores``, but the score matrix is made a block of rows at a time, on the
    device of the embeddings.

    Args:
        queries: (Q, D) float; scores are dot products, so unit length gives cosines.
        candidates: (N, D) float, N at least 1, or (N, T, D) with a similarity.
        positives: As above; may be left out where there are labels.
        sampler: As above.
        count: As above.
        labels: Labels (Q,) of the queries and (N,) of the candidates: equal labels are positives,
            and never negatives, also where ``positives`` has one target alone.
        itself: Whether candidate i is query i, as in a batch held against itself: it is then never
            a negative of its row, nor the target that labels give. False for two towers. None:
            where ``queries`` and ``candidates`` are one object.
        excluded: As above; or the columns of each row; or a function that gives the rows (q, N) of
            a slice, where the mask of all rows would not fit in memory.
        similarity: Scores (q, N) of queries (q, D) and candidates, each of its own candidate alone,
            such as ``cir_plugins.best_token``; dot products if left out.
        seed: As above.
        epoch: As above.
        complete: As above.
        block: Rows scored at once; as many as suit the device if left out.
        statistics: Counts the negatives that the sampler leaves; None for no statistics.

    Warns:
        UserWarning: If no query has a positive, so that none has a negative.

    Raises:
        ValueError: As above, if there are neither positives nor labels, if ``itself`` is True
            and there are not as many candidates as queries, or if candidates have several tokens
            and there is no similarity.
    """
    if positives is None and labels is None:
        raise ValueError("positives and labels are missing; accepted: one of them or both")
    if similarity is None and candidates.dim() != 2:
        raise ValueError(
            f"candidates {tuple(candidates.shape)} have several tokens: give a similarity, such as "
            "cir_plugins.best_token"
        )
    itself = queries is candidates if itself is None else itself
    _require_rows(len(queries), len(candidates), itself, labels)
    measure = similarity or _dot_products
    mined = blocks(
        lambda rows: score(queries[rows], candidates, measure),
        _relevance(positives, labels, itself, excluded),
        sampler,
        rows=range(len(queries)),
        candidates=len(candidates),
        device=queries.device,
        size=block,
    )
    ids, present = _drawn(mined, queries, count, seed, epoch, 0, complete, statistics)
    if not present and len(queries) and not complete:
        reason = "candidate i is query i (itself), and no other has its label; " if itself else ""
        warnings.warn(
            f"none of the {len(queries)} queries has a positive among the candidates, so that none "
            f"has a negative: {reason}check positives and labels",
            stacklevel=2,
        )
    return ids


class NegativeTable:
    """Negatives of every row in shared memory: what ``refresh`` writes, running workers read.

    A dataset that holds the table can be sent to persistent DataLoader workers once; refresh it
    between two epochs, never while an epoch's batches are being made.

    Attributes:
        ids: (Q, K) int64 in shared CPU memory.
    """

    def __init__(self, ids: Tensor) -> None:
        with torch.inference_mode(False):  # what is made in it could not be changed outside
            self.ids: Tensor = ids.detach().to("cpu", torch.long, copy=True)
            self._version = torch.zeros(1, dtype=torch.long)
        for shared in (self.ids, self._version):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def version(self) -> int:
        """Number of refreshes."""
        return int(self._version)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Tensor:
        """The row's negatives (K,), a copy."""
        return self.ids[row].clone()

    def refresh(self, ids: Tensor) -> float:
        """Share of the old negatives that stay, once new ones (Q, K) are put in.

        Raises:
            ValueError: If the shape differs from the table's.
        """
        if ids.shape != self.ids.shape:
            raise ValueError(f"expected ids {tuple(self.ids.shape)}, found {tuple(ids.shape)}")
        fresh = ids.detach().to("cpu", torch.long)
        present = self.ids >= 0
        stays = (self.ids[:, :, None] == fresh[:, None, :]).any(dim=2) & present
        share = float(stays.sum()) / max(1, int(present.sum()))
        self.ids.copy_(fresh)
        self._version += 1
        return share


def _dot_products(queries: Tensor, candidates: Tensor) -> Tensor:
    return queries @ candidates.T


def _require_rows(
    rows: int, columns: int, itself: bool, labels: tuple[Tensor, Tensor] | None
) -> None:
    """Check that queries, candidates and labels belong together.

    Raises:
        ValueError: If a number of them differs.
    """
    if itself and rows != columns:
        raise ValueError(f"itself: {rows} queries cannot be the {columns} candidates")
    if labels is not None and (len(labels[0]), len(labels[1])) != (rows, columns):
        raise ValueError(
            f"expected labels ({rows},) and ({columns},), "
            f"found {tuple(labels[0].shape)} and {tuple(labels[1].shape)}"
        )


def _relevance(
    positives: Tensor | None,
    labels: tuple[Tensor, Tensor] | None,
    itself: bool,
    excluded: Excluded | None,
) -> RelevanceOf:
    """Relevance from what the caller of ``negatives_of_embeddings`` gave."""

    def of_rows(rows: slice, scores: Tensor | None) -> Relevance:
        assert scores is not None
        masks = [] if excluded is None else [_mask_of_rows(excluded, rows, scores)]
        right = None if positives is None else positives[rows].to(scores.device)
        diagonal = torch.arange(rows.start, rows.stop, device=scores.device)[:, None]
        if labels is not None:
            same = labels[0][rows, None] == labels[1][None, :]
            others = same.scatter(1, diagonal, False) if itself else same
            masks, right = [*masks, same], others if right is None else right
        elif itself:
            masks.append(torch.zeros_like(scores, dtype=torch.bool).scatter(1, diagonal, True))
        assert right is not None
        return relevance_of_positives(scores, right, masks, rows.start)

    return of_rows


def _mask_of_rows(excluded: Excluded, rows: slice, scores: Tensor) -> Tensor:
    """The exclusions (q, N) bool of some rows."""
    if isinstance(excluded, Columns):
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[excluded.block(rows.start, rows.stop)] = True
        return mask
    return (excluded[rows] if isinstance(excluded, Tensor) else excluded(rows)).to(scores.device)


def _drawn(
    mined: Iterable[Block],
    like: Tensor,
    count: int,
    seed: int,
    epoch: int,
    first_row: int,
    complete: bool,
    statistics: PoolStatistics | None,
) -> tuple[Tensor, bool]:
    """Ids (Q, count) drawn from each block, and whether any row has a target.

    ``like`` (Q, ...) gives the number of rows and the device.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    ids = torch.full((len(like), count), -1, device=like.device)
    short, present = 0, False
    for block in mined:
        mask = block.mask
        present = present or block.relevance.present is None or bool(block.relevance.present.any())
        if statistics is not None:
            statistics.add_block(block)
        if complete:
            number = count_true(mask)
            short += int((number < count).sum())
            mask = _filled(block, number == 0, first_row)
        first = first_row + block.rows.start
        ids[block.rows] = draw(
            mask,
            count,
            seed=seed,
            epoch=epoch,
            first_row=first,
            repeat=complete,
            weights=block.weights,
        )
    share = short / max(1, len(like))
    if share > 0.5:
        warnings.warn(
            f"the sampler left {share:.0%} of the rows fewer than {count} negatives: they repeat "
            "what they have, or take what lies outside of its bounds; see negative_pool_report",
            stacklevel=3,
        )
    return ids, present


def _filled(block: Block, empty: Tensor, first_row: int) -> Tensor:
    """The mask (q, N), its empty rows (q,) filled with what is not excluded, from below first."""
    rows = empty.nonzero()[:, 0]
    if not len(rows):
        return block.mask
    assert block.scores is not None
    target, excluded, _, present = block.relevance
    scores, allowed = block.scores[rows], ~excluded[rows]
    below = (scores < scores.gather(1, target[rows, None])) & allowed
    if present is not None:
        below &= present[rows, None]
    fill = torch.where(below.any(dim=1, keepdim=True), below, allowed)
    nothing = ~fill.any(dim=1)
    if bool(nothing.any()):
        row = int(rows[nothing][0]) + block.rows.start + first_row
        raise ValueError(f"row {row}: every candidate is excluded, nothing can be drawn")
    return block.mask.index_copy(0, rows, fill)
