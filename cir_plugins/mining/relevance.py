"""Target and false-negative mask of the queries of a block. Imports torch alone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cir_plugins.retrieval.counting import compare_values


class Relevance(NamedTuple):
    """Target and false-negative mask of the queries of a block.

    Attributes:
        target: (q,) int64 column of the target; any where there is none.
        excluded: (q, N) bool, columns that may never be a negative; used up.
        pairs: The same as rows and columns (M,), where they are few.
        present: (q,) bool, queries that have a target; None where all have.
    """

    target: Tensor
    excluded: Tensor
    pairs: tuple[Tensor, Tensor] | None = None
    present: Tensor | None = None


# Of the rows of a block, whose scores (q, N) come with them unless nothing was scored.
RelevanceOf = Callable[[slice, Tensor | None], Relevance]


@dataclass(frozen=True)
class Columns:
    """Some columns for each row, such as its positives.

    Attributes:
        starts: (Q + 1,) int64, where each row's columns start and the last one's end.
        columns: (M,) int64 columns, row after row.
    """

    starts: Tensor
    columns: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Columns:
        """The lists of columns, one for each row."""
        sizes = torch.tensor([0, *(len(row) for row in rows)])
        return cls(sizes.cumsum(0), torch.tensor([c for row in rows for c in row]).long())

    @classmethod
    def gathered(cls, row: Tensor, column: Tensor, rows: int) -> Columns:
        """The columns (M,) of each of the rows (M,), of ``rows`` in all; -1 is no column."""
        row, column = row[column >= 0], column[column >= 0]
        starts = torch.zeros(rows + 1, dtype=torch.long)
        starts[1:] = torch.bincount(row, minlength=rows).cumsum(0)
        return cls(starts, column[row.argsort(stable=True)])

    def block(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Rows, counted from ``first``, and columns, of the rows ``first`` to ``last - 1``."""
        starts = self.starts[first : last + 1]
        rows = torch.repeat_interleave(torch.arange(last - first), starts.diff())
        return rows, self.columns[starts[0] : starts[-1]]


def relevance_of_columns(
    target: Tensor, excluded: Columns, candidates: int, device: torch.device
) -> RelevanceOf:
    """Relevance from a target column (Q,) and lists of exclusions of each row.

    Args:
        target: (Q,) int64, on the CPU.
        excluded: Columns that are no negatives.
        candidates: Number of candidates (N).
        device: Where the scores are.
    """

    def of_rows(rows: slice, scores: Tensor | None) -> Relevance:
        row, column = (index.to(device) for index in excluded.block(rows.start, rows.stop))
        mask = torch.zeros(rows.stop - rows.start, candidates, dtype=torch.bool, device=device)
        mask[row, column] = True
        return Relevance(target[rows].to(device), mask, pairs=(row, column))

    return of_rows


def relevance_of_positives(
    scores: Tensor, positives: Tensor, masks: Sequence[Tensor], first_row: int = 0
) -> Relevance:
    """Relevance of a block from its positives; the best scored of several is the target.

    Args:
        scores: (q, N) float, N at least 1.
        positives: (q,) int column of the target (-1: none), or (q, N) bool.
        masks: Masks (q, N) bool of what else is excluded.
        first_row: Number of the first row, for errors.

    Raises:
        ValueError: If a shape, a dtype or a column does not fit.
    """
    require_positives(scores, positives, masks)
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    for mask in masks:
        excluded |= mask
    if positives.dtype == torch.bool:
        target = scores.masked_fill(~positives, -torch.inf).argmax(dim=1)
        present = positives.gather(1, target[:, None])[:, 0]  # not so where none is scored
        return Relevance(target, excluded.logical_or_(positives), present=present)
    require_columns("positive", positives, scores.shape[1], first_row)
    none = None if masks else (positives.new_empty(0).long(),) * 2
    return Relevance(positives.long().clamp(min=0), excluded, none, positives >= 0)


def require_columns(name: str, columns: Tensor, candidates: int, first_row: int = 0) -> None:
    """Check that columns (Q,) are some of the candidates, or -1 for none.

    Raises:
        ValueError: If one is neither.
    """
    wrong = (columns < -1) | (columns >= candidates)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"row {row + first_row}: {name} {int(columns[row])} is no column of {candidates}; "
            "-1 is none"
        )


def padding(scores: Tensor) -> Tensor:
    """Mask (q, N) bool of the scores of -inf."""
    return compare_values(scores, operator.eq, scores.new_tensor(-torch.inf))


def require_positives(scores: Tensor, positives: Tensor, masks: Sequence[Tensor]) -> None:
    """Check that positives and masks fit the scores (Q, N).

    Raises:
        ValueError: If a shape or a dtype does not fit.
    """
    for mask in masks:
        require_mask("excluded", mask, scores)
    if positives.dtype == torch.bool:
        require_mask("positives", positives, scores)
    elif positives.shape != scores.shape[:1] or positives.is_floating_point():
        raise ValueError(
            f"expected positives ({len(scores)},) of columns or {tuple(scores.shape)} of bool, "
            f"found {tuple(positives.shape)} of {positives.dtype}"
        )


def require_mask(name: str, mask: Tensor, scores: Tensor) -> None:
    """Check that a mask fits the scores (Q, N).

    Raises:
        ValueError: If its dtype is not bool or its shape differs.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} must be a mask of bool, not {mask.dtype}")
    if mask.shape != scores.shape:
        raise ValueError(f"expected {name} {tuple(scores.shape)}, found {tuple(mask.shape)}")
