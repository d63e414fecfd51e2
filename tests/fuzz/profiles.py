"""Two profiles of each property: a short one with the other tests, a long one with ``-m fuzz``.

Both are derandomised: a failure comes again with the same command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

LONG = 100  # times as many examples as in the short profile

profiles = pytest.mark.parametrize(
    "times", [pytest.param(1, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.fuzz)]
)


def explore(
    examples: int, property_holds: Callable[..., None], *strategies: SearchStrategy[Any]
) -> None:
    """Try a property on so many examples of the strategies; many of them are made smaller.

    Args:
        examples: How many.
        property_holds: Raises where it does not.
        strategies: One for each of its arguments.
    """
    many = examples >= LONG
    settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,  # commands are timed on their own
        print_blob=False,
        report_multiple_bugs=many,
        phases=(Phase.generate, Phase.shrink) if many else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(property_holds))()
