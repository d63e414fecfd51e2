"""Fractions in percent, for people to read: measures and shares are fractions everywhere else."""

from __future__ import annotations


def percent(
    fraction: float | None, *, digits: int = 2, signed: bool = False, missing: str = ""
) -> str:
    """A fraction in percent, without the sign ``%``.

    Args:
        fraction: Such as 0.125; None for one that is not there.
        digits: Digits behind the point.
        signed: Whether a plus stands before what is not negative.
        missing: The text for None.
    """
    if fraction is None:
        return missing
    return f"{100 * fraction:{'+' if signed else ''}.{digits}f}"
