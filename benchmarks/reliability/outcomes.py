"""Counts of a campaign: what was tried, what held and what failed, printed and as a JSON line."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cir_plugins.bench.environment import commit, hardware, versions

SHOWN = 20  # failures that are printed


class Outcomes:
    """The tries of a campaign by kind.

    Args:
        campaign: Its name.
        seed: Seed of everything that it draws.
    """

    def __init__(self, campaign: str, seed: int) -> None:
        self.campaign = campaign
        self.seed = seed
        self.began = time.perf_counter()
        self.tried: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []

    def add(self, kind: str, failure: str = "", *, outcome: str = "", tries: int = 1) -> None:
        """Count tries of a kind.

        Args:
            kind: What was disturbed.
            failure: What went wrong; "" where it held.
            outcome: How it held, in a word.
            tries: How many there were, of which a failure fails one.
        """
        self.tried[kind] += tries
        if failure:
            self.failures.append(f"{kind}: {failure}")
            print(f"failed: {self.failures[-1]}", file=sys.stderr, flush=True)
        elif outcome:
            self.outcomes[outcome] += tries

    @property
    def total(self) -> int:
        """Number of tries."""
        return sum(self.tried.values())

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A context that Ctrl-C leaves, so that what was tried until then is printed."""
        try:
            yield
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)

    def line(self) -> dict[str, Any]:
        """The campaign as one JSON object."""
        return {
            "campaign": self.campaign,
            "tried": self.total,
            "held": self.total - len(self.failures),
            "failed": len(self.failures),
            "by_kind": dict(sorted(self.tried.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "failures": self.failures[:SHOWN],
            "seed": self.seed,
            "seconds": round(time.perf_counter() - self.began, 1),
            "hardware": hardware(),
            **versions(),
            "commit": commit(),
        }

    def finish(self) -> int:
        """The exit code, once the counts and the JSON line are printed."""
        for kind, count in sorted(self.tried.items()):
            failed = sum(failure.startswith(f"{kind}: ") for failure in self.failures)
            print(f"{kind}: {count} tried, {count - failed} held, {failed} failed")
        line = self.line()
        print(f"{line['tried']} tried, {line['held']} held, {line['failed']} failed")
        print(json.dumps(line), flush=True)
        return 1 if self.failures else 0
