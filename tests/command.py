"""Results of commands that run in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Output:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def complains(self, *fragments: str) -> bool:
        """Whether it ended as on wrong input, with all these fragments and without a traceback."""
        last = self.err.rpartition("\r")[2]  # after any progress bar
        while last.startswith("note: "):
            last = last.partition("\n")[2]
        one_message = last.startswith("error: ") and "Traceback" not in self.err
        return self.code == 2 and one_message and all(one in self.err for one in fragments)


Call = Callable[..., Output]
