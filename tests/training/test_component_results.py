"""What a loss and a sampler return in training is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.errors import CIRError
from tests.fakes import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


class Unreduced(InfoNCE):
    """One value per candidate instead of one per query."""

    def __call__(self, scores: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
        """Values (B, C)."""
        return -scores.log_softmax(dim=1)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (torch.ones(1, 1, dtype=torch.bool), r"bool of shape \(1, 1\)"),
        (None, "NoneType"),
        (torch.ones(6, 12), r"float32 of shape \(6, 12\)"),
    ],
)
def test_sampler_of_another_shape_is_an_error(tmp_path: Path, result: Any, found: str) -> None:
    """A mask (1, 1) was broadcast: every candidate a negative, the target too."""

    class Wrong:
        def __call__(self, *_: Tensor) -> Any:
            return result

    trainer = make_trainer(tmp_path / "run", tmp_path / "data")
    trainer.method.sampler = Wrong()
    with pytest.raises(CIRError, match=f"sampler .*Wrong of tests.training.* {found}"):
        trainer.fit()


def test_loss_of_another_shape_is_an_error(tmp_path: Path) -> None:
    """Its mean over all candidates was trained towards, at a plausible value."""
    trainer = make_trainer(tmp_path / "run", tmp_path / "data")
    trainer.method.loss = Unreduced()
    message = r"loss Unreduced of .* returned float32 of shape \(\d, \d+\); accepted: floats of"
    with pytest.raises(CIRError, match=message):
        trainer.fit()
