"""Training rows as tensors, so that what asks all of them needs no loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cir_plugins.data import Row


@dataclass(frozen=True)
class FlatRows:
    """The numbers of R training rows with M answers between them.

    Attributes:
        split: (R,) int64 split of each row.
        reference: (R,) int64 image.
        target: (R,) int64 image.
        answered: (M,) int64 row of each known right answer, ascending.
        answer: (M,) int64 image of it; in a row each image appears once.
    """

    split: Tensor
    reference: Tensor
    target: Tensor
    answered: Tensor
    answer: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> FlatRows:
        """The numbers of the rows."""
        answers = [
            (number, i) for number, row in enumerate(rows) for i in dict.fromkeys(row.answers)
        ]
        answered, answer = torch.tensor(answers).long().view(-1, 2).unbind(1)
        return cls(
            torch.tensor([row.split for row in rows]),
            torch.tensor([row.reference for row in rows]),
            torch.tensor([row.target for row in rows]),
            answered.contiguous(),
            answer.contiguous(),
        )
