"""What a sampler leaves each row to draw from, and numbers about it.

Imports torch and the sampler beside it alone, so that any contrastive project can use it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dqe_plugin.sampler import TargetRelative, compared, count_true, drops

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]

# Scores of a block: on a CPU it stays in the caches, a GPU wants few large ones.
_CELLS, _GPU_CELLS = 1_300_000, 32_000_000
# Few rows make the matrix product slow: up to 16 are taken where they are no more than this.
_MOST_CELLS = 8_000_000
_BINS, _SPAN = 200, 2.0  # of the histogram of drops; cosines differ by at most 2


class Known(NamedTuple):
    """What is known of a block's rows.

    Attributes:
        target: (q,) int64 column of the target; 0 where there is none.
        barred: (q, N) bool, what may not be a negative.
        present: (q,) bool, rows that have a target.
    """

    target: Tensor
    barred: Tensor
    present: Tensor


class Counted:
    """A sampler that counts the rows which another one leaves short.

    Args:
        rule: ``(scores, target, excluded) -> (Q, N) bool``; ``TargetRelative()`` if None.
        count: Rows with fewer negatives than this are short.
    """

    def __init__(self, rule: Rule | None, count: int) -> None:
        self.rule = TargetRelative() if rule is None else rule
        self.count = count
        self._rows = self._short = 0

    def __call__(self, scores: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
        """What the other sampler all_positives."""
        mask = self.rule(scores, target, excluded)
        self._rows += len(mask)
        self._short += int((count_true(mask) < self.count).sum())
        return mask

    @property
    def share(self) -> float:
        """Share of the rows so far that were short, 0 to 1."""
        return self._short / max(1, self._rows)


def rows_per_block(columns: int, device: torch.device) -> int:
    """How many rows of so many columns suit the device's memory."""
    columns = max(1, columns)
    if device.type != "cpu":
        return max(1, _GPU_CELLS // columns)
    return max(_CELLS // columns, min(16, _MOST_CELLS // columns), 1)


def require_known(scores: Tensor, positives: Tensor, excluded: Sequence[Tensor]) -> None:
    """Refuse positives and masks whose shape or dtype does not fit the scores (Q, N)."""
    for mask in excluded:
        require_mask("excluded", mask, scores)
    if positives.dtype == torch.bool:
        require_mask("positives", positives, scores)
    elif positives.shape != scores.shape[:1] or positives.is_floating_point():
        raise ValueError(
            f"expected positives ({len(scores)},) of columns or {tuple(scores.shape)} of bool, "
            f"found {tuple(positives.shape)} of {positives.dtype}"
        )


def require_mask(name: str, mask: Tensor, scores: Tensor) -> None:
    """Refuse what is no mask of the scores."""
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} must be a mask of bool, not {mask.dtype}")
    if mask.shape != scores.shape:
        raise ValueError(f"expected {name} {tuple(scores.shape)}, found {tuple(mask.shape)}")


def known(
    scores: Tensor, positives: Tensor, excluded: Sequence[Tensor], first_row: int = 0
) -> Known:
    """Targets, and what may not be a negative: positives, what is excluded, scores of -inf.

    Args:
        scores: (q, N) float, N at least 1.
        positives: (q,) int column of the target (-1: none), or (q, N) bool.
        excluded: Masks (q, N) bool.
        first_row: Number of the first row, for errors.

    Raises:
        ValueError: If a positive is no column.
    """
    wide = scores.detach()
    wide = wide.float() if wide.dtype == torch.bfloat16 else wide  # which NumPy does not know
    barred = compared(wide, operator.eq, wide.new_tensor(-torch.inf))
    for mask in excluded:
        barred |= mask
    if positives.dtype == torch.bool:
        target = scores.masked_fill(~positives, -torch.inf).argmax(dim=1)
        present = positives.gather(1, target[:, None])[:, 0]  # not so where none is scored
        return Known(target, barred.logical_or_(positives), present)
    wrong = (positives < -1) | (positives >= scores.shape[1])
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"row {row + first_row}: positive {int(positives[row])} is no column of "
            f"{scores.shape[1]}; -1 is none"
        )
    present = positives >= 0
    target = positives.long().clamp(min=0)
    own = barred.gather(1, target[:, None]) | present[:, None]
    return Known(target, barred.scatter_(1, target[:, None], own), present)


def pool_report(
    scores: Tensor,
    positives: Tensor,
    excluded: Tensor | None = None,
    sampler: Rule | None = None,
    *,
    all_positives: Tensor | None = None,
) -> dict[str, Any]:
    """What the sampler leaves each row, as numbers; for all rows or a sample of them.

    They have the names and the meaning that ``cir report`` gives them: ``pool`` (``mean`` and
    ``quartiles`` of the number of candidates), ``empty`` (share of rows without any), ``fallback``
    (share of rows filled from outside the zone, where the sampler tells), ``drop`` (``counts`` of
    the score drops from target to pool, in equal bins over ``span``) and ``false_negatives`` (share
    of the pools that are all_positives). A sampler has collapsed where ``empty`` or ``fallback`` is near
    1.

    Args:
        scores: (Q, N) float, higher is closer; Q and N at least 1.
        positives: (Q,) int column of the target (-1: none), or (Q, N) bool.
        excluded: (Q, N) bool, further candidates that may never be negatives.
        sampler: ``(scores, target, excluded) -> (Q, N) bool``; ``TargetRelative()`` if None.
        all_positives: (Q, N) bool, what is right, marked or not, where that is known.

    Raises:
        ValueError: If there is nothing to report on, or a shape, a dtype or a column does not fit.
    """
    if not scores.numel():
        raise ValueError(f"scores {tuple(scores.shape)} hold nothing to report on")
    if all_positives is not None:
        require_mask("all_positives", all_positives, scores)
    rule: Any = TargetRelative() if sampler is None else sampler
    masks = [] if excluded is None else [excluded]
    require_known(scores, positives, masks)
    target, barred, present = known(scores, positives, masks)
    outside = None
    if hasattr(rule, "pools"):
        mask, outside = rule.pools(scores, target, barred)
    else:
        mask = rule(scores, target, barred)
        if hasattr(rule, "fallback_rows"):
            outside = rule.fallback_rows(scores, target, barred)
    mask = mask & present[:, None]
    sizes = count_true(mask).double().cpu()
    inside = drops(scores, target, barred)[mask].float().cpu()
    report: dict[str, Any] = {
        "pool": {
            "mean": float(sizes.mean()),
            "quartiles": [float(sizes.quantile(share)) for share in (0.25, 0.5, 0.75)],
        },
        "empty": float((sizes == 0).double().mean()),
        "drop": {
            "span": [-_SPAN, _SPAN],
            "counts": torch.histc(inside, _BINS, -_SPAN, _SPAN).long().tolist(),
        },
    }
    if outside is not None:
        report["fallback"] = float((outside & present).double().mean())
    if all_positives is not None:
        report["false_negatives"] = int((mask & all_positives).sum()) / max(1, int(sizes.sum()))
    return report
