"""The error that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CIRError(Exception):
    """What was wrong, where, and what is accepted, in one to three lines.

    The command line prints it without a traceback and ends with exit code 2.
    """


class SharedError(CIRError):
    """An error that all processes of a run have; the first of them prints it."""


def unknown_name(what: str, name: str, known: Iterable[str], *, hint: str = "") -> CIRError:
    """The error for a name that is not there: nearest names, all names, and a hint if any."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    message = f"unknown {what} '{name}'"
    if near:
        message += f"; nearest: {', '.join(near)}"
    message += f"\naccepted: {', '.join(names) if names else '(none)'}"
    return CIRError(f"{message}\n{hint}" if hint else message)
