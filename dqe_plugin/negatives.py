"""Negative ids from embeddings or scores, and a table of them that loader workers see change.

Imports torch and the sampler beside it alone, so that any contrastive project can use it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dqe_plugin.sampler import TargetRelative

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]

_HALF = 0xFFFFFFFF


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

    Drawn without replacement from what the sampler lets through, by a hash of (seed, row, column):
    blocks, devices and the order of calls change nothing.

    Args:
        scores: (Q, N) float, higher is closer.
        positives: (Q,) int64 column of the target (-1: none), or (Q, N) bool. Of several
            positives the best scored is the target and none is a negative. A row without any has
            no negatives.
        count: Negatives per row, at least 1.
        excluded: (Q, N) bool, further candidates that may never be negatives.
        sampler: ``(scores, target, excluded) -> (Q, N) bool``; ``TargetRelative()`` if None.
        seed: Pass another one for each epoch to draw anew.
        first_row: Number of the first row, where the scores are a block of a larger matrix.
        complete: Repeat a short row's negatives until it is full; a row where nothing qualifies
            draws from all that is not excluded. Needed where every row must be of one length.

    Raises:
        ValueError: If a shape does not fit, or ``complete`` meets a row with nothing to draw.
    """
    target, barred, present = _targets(scores, positives, excluded)
    rule = TargetRelative() if sampler is None else sampler
    allowed = rule(scores, target, barred) & present[:, None]
    if complete:
        nothing = ~allowed.any(dim=1, keepdim=True)
        allowed = torch.where(nothing, ~barred, allowed)
        if not bool(allowed.any(dim=1).all()):
            row = int((~allowed.any(dim=1)).nonzero()[0]) + first_row
            raise ValueError(f"row {row}: every candidate is excluded, nothing can be drawn")
    ids = draw(allowed, count, seed=seed, first_row=first_row)
    return _repeated(ids) if complete else ids


def negatives_of_embeddings(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor | None = None,
    *,
    count: int,
    labels: tuple[Tensor, Tensor] | None = None,
    excluded: Tensor | None = None,
    sampler: Rule | None = None,
    seed: int = 0,
    complete: bool = False,
    block: int = 256,
) -> Tensor:
    """Columns (Q, count) int64 of each query's negatives among the candidates; see above.

    The score matrix is made a block of rows at a time, on the device of the embeddings.

    Args:
        queries: (Q, D) float; scores are dot products, so unit length gives cosines.
        candidates: (N, D) float.
        positives: As above; may be left out where labels are given.
        count: As above.
        labels: Labels (Q,) of the queries and (N,) of the candidates: equal labels are positives,
            and never negatives, also where ``positives`` names one target. Where both tensors are
            one object, the candidates are the queries, and a row is not its own target.
        excluded: As above.
        sampler: As above.
        seed: As above.
        complete: As above.
        block: Rows scored at once.

    Raises:
        ValueError: As above, or if neither positives nor labels are given.
    """
    if positives is None and labels is None:
        raise ValueError("give positives or labels: without either no candidate is known as right")
    parts = []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        barred = None if excluded is None else excluded[rows]
        right = None if positives is None else positives[rows]
        if labels is not None:
            same = labels[0][rows, None] == labels[1][None, :]
            barred = same if barred is None else barred | same
            right = _others(same, start, labels[0] is labels[1]) if right is None else right
        scores = queries[rows] @ candidates.T
        parts.append(
            negatives_of_scores(
                scores,
                right,  # type: ignore[arg-type]
                count=count,
                excluded=barred,
                sampler=sampler,
                seed=seed,
                first_row=start,
                complete=complete,
            )
        )
    return torch.cat(parts) if parts else queries.new_empty(0, count, dtype=torch.long)


def draw(allowed: Tensor, count: int, *, seed: int, first_row: int = 0) -> Tensor:
    """``count`` of each row's allowed columns (Q, N), as ids (Q, count) padded with -1."""
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rows, columns = allowed.shape
    row = torch.arange(first_row, first_row + rows, device=allowed.device)
    column = torch.arange(columns, device=allowed.device)
    start = _mixed(torch.tensor(seed & _HALF, device=allowed.device))
    keys = _mixed(_mixed(row ^ start)[:, None] ^ column[None, :])
    keys = keys * columns + column  # no two are equal, so that every device picks the same
    best = keys.masked_fill(~allowed, -1).topk(min(count, columns), dim=1)
    ids = best.indices.masked_fill(best.values < 0, -1)
    padding = ids.new_full((rows, count - ids.shape[1]), -1)
    return torch.cat([ids, padding], dim=1)


class NegativeTable:
    """Negatives of every row in shared memory: what ``refresh`` writes, running workers read.

    A dataset that holds the table can be sent to persistent DataLoader workers once; refresh it
    between two epochs, never while an epoch's batches are being made.

    Attributes:
        ids: (Q, K) int64 in shared CPU memory.
    """

    def __init__(self, ids: Tensor) -> None:
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


def _targets(
    scores: Tensor, positives: Tensor, excluded: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Target (Q,), what may not be a negative (Q, N), and which rows (Q,) have a target."""
    for name, given in (("positives", positives), ("excluded", excluded)):
        if given is not None and given.dtype == torch.bool and given.shape != scores.shape:
            raise ValueError(f"expected {name} {tuple(scores.shape)}, found {tuple(given.shape)}")
    barred = torch.zeros_like(scores, dtype=torch.bool) if excluded is None else excluded.clone()
    if positives.dtype == torch.bool:
        target = scores.masked_fill(~positives, -torch.inf).argmax(dim=1)
        return target, barred | positives, positives.any(dim=1)
    if positives.shape != scores.shape[:1]:
        raise ValueError(
            f"expected positives ({len(scores)},) of columns or {tuple(scores.shape)} of bool, "
            f"found {tuple(positives.shape)}"
        )
    target = positives.clamp(min=0)
    return target, barred.scatter(1, target[:, None], True), positives >= 0


def _others(same: Tensor, start: int, itself: bool) -> Tensor:
    """The mask (Q, N) without each row's own column, where rows and columns are one set."""
    if not itself:
        return same
    own = torch.arange(start, start + len(same), device=same.device)[:, None]
    return same.scatter(1, own, False)


def _repeated(ids: Tensor) -> Tensor:
    """Ids (Q, K) whose padding is replaced by the row's ids from its start."""
    found = (ids >= 0).sum(dim=1, keepdim=True)
    place = torch.arange(ids.shape[1], device=ids.device)[None, :] % found
    return ids.gather(1, place)


def _mixed(values: Tensor) -> Tensor:
    """A scrambled 32-bit number, 0 to 2**32 - 1, for each; the same on every device."""
    mixed = values & _HALF
    for shift in (16, 15):
        mixed = ((mixed ^ (mixed >> shift)) * 0x45D9F3B) & _HALF
    return mixed ^ (mixed >> 16)
