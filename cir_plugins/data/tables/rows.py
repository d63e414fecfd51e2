"""Rows in messages."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 10


def row_list(rows: Iterable[str], what: str = "row") -> str:
    """Rows for a message: ``row 5``, or ``rows 5, 9``; ten of them at most, then their number."""
    names = list(rows)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{what}{'' if len(names) == 1 else 's'} {', '.join(names[:_SHOWN])}{more}"
