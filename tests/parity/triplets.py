"""Batches of parity cases: row i has image i as reference and column i as target."""

from __future__ import annotations

import torch
from torch import Tensor

from cir_plugins.types import Batch, Tokens


def batch_of(images: list[Tensor], tokens: Tokens) -> Batch:
    """A batch from equally many references, targets and (optionally) negatives."""
    rows = len(images[0])
    columns = rows * (len(images) - 1)
    mined = None
    if len(images) > 2:
        mined = torch.zeros(rows, columns, dtype=torch.bool)
        mined[torch.arange(rows), torch.arange(rows) + rows] = True
    return Batch(
        images=torch.cat(images),
        features=None,
        reference=torch.arange(rows),
        candidates=torch.arange(rows, rows + columns),
        target=torch.arange(rows),
        excluded=torch.zeros(rows, columns, dtype=torch.bool),
        text=[""] * rows,
        tokens=tokens,
        mined=mined,
    )
