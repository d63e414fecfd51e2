"""Negative ids from embeddings or scores, and a table of them that loader workers see change.

Imports torch and the modules beside it that do the same, so that any contrastive project can use
it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dqe_plugin.drawing import draw
from dqe_plugin.pools import Rule, known, pool_report, require_known, rows_per_block
from dqe_plugin.sampler import TargetRelative, count_true

__all__ = [
    "NegativeTable",
    "Rule",
    "draw",
    "negatives_of_embeddings",
    "negatives_of_scores",
    "pool_report",
]


def negatives_of_scores(
    scores: Tensor,
    positives: Tensor,
    *,
    count: int,
    excluded: Tensor | None = None,
    sampler: Rule | None = None,
    seed: int = 0,
    first_row: int = 0,
    complete: bool = False,
) -> Tensor:
    """Columns (Q, count) int64 of each row's negatives, -1 behind the last where there are fewer.

    Drawn without replacement from what the sampler lets through, by a hash of the seed and the
    row: blocks, devices and the order of calls change nothing. The sampler sees a few rows at a
    time, so that its work stays in the processor's caches.

    Args:
        scores: (Q, N) float, higher is closer; -inf is padding and never a negative.
        positives: (Q,) int column of the target (-1: none), or (Q, N) bool. Of several
            positives the best scored is the target and none is a negative. A row without any has
            no negatives.
        count: Negatives per row, at least 1.
        excluded: (Q, N) bool, further candidates that may never be negatives.
        sampler: ``(scores, target, excluded) -> (Q, N) bool``; ``TargetRelative()`` if None.
        seed: Pass another one for each epoch to draw anew.
        first_row: Number of the first row, where the scores are a block of a larger matrix.
        complete: Repeat a short row's negatives until it is full. A row where nothing qualifies
            draws from what is not excluded: from below its target, or from all of it where
            nothing lies there. Needed where every row must be of one length. Warns where the
            sampler left most rows short; ``pool_report`` tells more.

    Raises:
        ValueError: If a shape, a dtype or a column does not fit, or ``complete`` meets a row with
            nothing to draw.
    """
    plan = _Plan(count, sampler or TargetRelative(), seed, complete)
    barred = [] if excluded is None else [excluded]
    return plan.whole([plan.mined(scores, positives, barred, first_row)])


def negatives_of_embeddings(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor | None = None,
    *,
    count: int,
    labels: tuple[Tensor, Tensor] | None = None,
    itself: bool | None = None,
    excluded: Tensor | Callable[[slice], Tensor] | None = None,
    sampler: Rule | None = None,
    seed: int = 0,
    complete: bool = False,
    block: int | None = None,
) -> Tensor:
    """Columns (Q, count) int64 of each query's negatives among the candidates; see above.

    The score matrix is made a block of rows at a time, on the device of the embeddings.

    Args:
        queries: (Q, D) float; scores are dot products, so unit length gives cosines.
        candidates: (N, D) float.
        positives: As above; may be left out where labels are given.
        count: As above.
        labels: Labels (Q,) of the queries and (N,) of the candidates: equal labels are positives,
            and never negatives, also where ``positives`` names one target.
        itself: Whether candidate i is query i, as in a batch held against itself: it is then never
            a negative of its row, nor the target that labels give. False for two towers. None:
            where ``queries`` and ``candidates`` are one object.
        excluded: As above, or a function that gives the rows (q, N) of a slice, where the mask of
            all rows would not fit in memory.
        sampler: As above.
        seed: As above.
        complete: As above.
        block: Rows scored at once; None takes as many as suit the device.

    Raises:
        ValueError: As above, if neither positives nor labels are given, or if ``itself`` is True
            and there are not as many candidates as queries.
    """
    if positives is None and labels is None:
        raise ValueError("give positives or labels: without either no candidate is known as right")
    rows, columns = len(queries), len(candidates)
    itself = queries is candidates if itself is None else itself
    if itself and rows != columns:
        raise ValueError(f"itself: {rows} queries cannot be the {columns} candidates")
    if labels is not None and (len(labels[0]), len(labels[1])) != (rows, columns):
        raise ValueError(
            f"expected labels ({rows},) and ({columns},), "
            f"found {tuple(labels[0].shape)} and {tuple(labels[1].shape)}"
        )
    plan = _Plan(count, sampler or TargetRelative(), seed, complete)
    step = rows_per_block(columns, queries.device) if block is None else block
    found = []
    for start in range(0, max(1, rows), step):
        part = slice(start, min(start + step, rows))
        with torch.no_grad():
            scores = queries[part] @ candidates.T
        right = None if positives is None else positives[part]
        barred = [] if excluded is None else [_rows_of(excluded, part, scores.device)]
        own = torch.arange(start, part.stop, device=scores.device)[:, None]
        if labels is not None:
            same = labels[0][part, None] == labels[1][None, :]
            others = same.scatter(1, own, False) if itself else same
            barred, right = [*barred, same], others if right is None else right
        elif itself:
            barred.append(torch.zeros_like(scores, dtype=torch.bool).scatter(1, own, True))
        assert right is not None
        found.append(plan.mined(scores, right, barred, start))
    return plan.whole(found)


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
        """How often the table was refreshed."""
        return int(self._version)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Tensor:
        """The row's negatives (K,), a copy."""
        return self.ids[row].clone()

    def refresh(self, ids: Tensor) -> float:
        """Put in new negatives (Q, K); returns the share of the old ones that stay.

        Raises:
            ValueError: If the shape differs from the table's.
        """
        if ids.shape != self.ids.shape:
            raise ValueError(f"expected ids {tuple(self.ids.shape)}, found {tuple(ids.shape)}")
        fresh = ids.detach().to("cpu", torch.long)
        held = self.ids >= 0
        stays = (self.ids[:, :, None] == fresh[:, None, :]).any(dim=2) & held
        share = float(stays.sum()) / max(1, int(held.sum()))
        self.ids.copy_(fresh)
        self._version += 1
        return share


@dataclass(frozen=True)
class _Plan:
    """How rows are mined."""

    count: int
    rule: Rule
    seed: int
    complete: bool

    def mined(
        self, scores: Tensor, positives: Tensor, excluded: Sequence[Tensor], first_row: int
    ) -> tuple[Tensor, Tensor]:
        """Ids (Q, count), and which rows (Q,) the sampler left short."""
        require_known(scores, positives, excluded)
        scores, found = scores.detach(), []
        step = rows_per_block(scores.shape[1], scores.device)
        for start in range(0, max(1, len(scores)), step):
            rows = slice(start, start + step)
            masks = [mask[rows] for mask in excluded]
            found.append(self._part(scores[rows], positives[rows], masks, first_row + start))
        ids, short = zip(*found, strict=True)
        return torch.cat(ids), torch.cat(short)

    def _part(
        self, scores: Tensor, positives: Tensor, excluded: Sequence[Tensor], first_row: int
    ) -> tuple[Tensor, Tensor]:
        """As ``mined``, all rows at once."""
        if not scores.numel():
            allowed = barred = torch.zeros_like(scores, dtype=torch.bool)
        else:
            target, barred, present = known(scores, positives, excluded, first_row)
            allowed = self.rule(scores, target, barred)
            allowed = allowed if bool(present.all()) else allowed & present[:, None]
        number = count_true(allowed)
        empty = (number == 0).nonzero()[:, 0] if self.complete else number[:0]
        if len(empty):
            own = scores.gather(1, target[:, None])[empty]
            below = (scores[empty] < own) & present[empty, None] & ~barred[empty]
            fill = torch.where(below.any(dim=1, keepdim=True), below, ~barred[empty])
            allowed = allowed.index_copy(0, empty, fill)
            still = ~allowed[empty].any(dim=1)
            if bool(still.any()):
                row = int(empty[still][0]) + first_row
                raise ValueError(f"row {row}: every candidate is excluded, nothing can be drawn")
        ids = draw(allowed, self.count, seed=self.seed, first_row=first_row)
        return _repeated(ids) if self.complete else ids, number < self.count

    def whole(self, found: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The ids (Q, count) of all blocks."""
        ids, short = (torch.cat(part) for part in zip(*found, strict=True))
        share = float(short.float().mean()) if len(short) else 0.0
        if self.complete and share > 0.5:
            warnings.warn(
                f"the sampler left {share:.0%} of the rows fewer than {self.count} negatives: they "
                "repeat what they have, or take what lies outside of its bounds; see pool_report",
                stacklevel=3,
            )
        return ids


def _rows_of(mask: Tensor | Callable[[slice], Tensor], rows: slice, device: torch.device) -> Tensor:
    """The rows of a mask (Q, N)."""
    return (mask[rows] if isinstance(mask, Tensor) else mask(rows)).to(device)


def _repeated(ids: Tensor) -> Tensor:
    """Ids (Q, K) whose padding is replaced by the row's ids from its start."""
    found = (ids >= 0).sum(dim=1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device)[None, :] % found
    return ids.gather(1, place)
