"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from cir_plugins.method import Method
from cir_plugins.training.checkpoint import trained_state


class Average:
    """Exponential moving average of the trained weights; buffers are the model's own.

    Args:
        method: Start values.
        decay: Share of the average that each update keeps, in (0, 1).
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.clone() for name, value in trained_state(method).items()}

    def update(self, method: Method) -> None:
        """Move the average towards the method's weights."""
        buffers = {name for name, _ in method.named_buffers()}
        for name, value in trained_state(method).items():
            if name in buffers:  # running statistics are averages already
                self.weights[name].copy_(value)
            else:
                self.weights[name].lerp_(value, 1 - self.decay)

    def applied(self, method: Method) -> AbstractContextManager[None]:
        """A context in which the method has the averaged weights."""

        @contextmanager
        def swap() -> Iterator[None]:
            own = {name: value.clone() for name, value in trained_state(method).items()}
            method.load_state_dict(self.weights, strict=False)
            try:
                yield
            finally:
                method.load_state_dict(own, strict=False)

        return swap()
