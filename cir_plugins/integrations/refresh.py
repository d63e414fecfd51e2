"""Negatives mined again while sentence-transformers' trainer runs."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import TrainerCallback


class Refreshable(Protocol):
    """Tuples that can be mined again, such as ``MinedTuples``."""

    model: Any

    def refresh(self) -> float:
        """Share of the old negatives that stay when they are mined again."""


class RefreshNegatives(TrainerCallback):  # type: ignore[misc]
    """Mines again after every ``every``-th epoch but the last, with the weights of that moment.

    Args:
        tuples: The ``MinedTuples`` whose dataset the trainer reads.
        every: Epochs between two refreshes, at least 1.

    Attributes:
        overlaps: Share of the negatives that stayed, one number for each refresh.

    Raises:
        ValueError: If ``every`` is less than 1.
    """

    def __init__(self, tuples: Refreshable, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self.tuples, self.every = tuples, every
        self.overlaps: list[float] = []

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refresh between two epochs, when no batch is being made."""
        epoch = round(state.epoch)
        # The trainer counts whole epochs, also where its arguments give steps.
        more = epoch < state.num_train_epochs and state.global_step < state.max_steps
        if epoch % self.every == 0 and more:
            training = self.tuples.model.training
            self.overlaps.append(self.tuples.refresh())
            self.tuples.model.train(training)
