"""Commands run in this process, and how they ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Answer:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def complains(self, *parts: str) -> bool:
        """Whether it ended as wrong input does, and said all these parts, without a traceback."""
        last = self.err.rpartition("\r")[2]  # after any progress bar
        told = last.startswith("error: ") and "Traceback" not in self.err
        return self.code == 2 and told and all(part in self.err for part in parts)


Call = Callable[..., Answer]
