"""The error that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_NAME = 100  # characters of a name in a message


class CIRError(Exception):
    """What was wrong, where, and what is accepted, in one to three lines.

    The command line prints it without a traceback and ends with exit code 2.
    """


def shown(value: object, most: int = 200) -> str:
    """A value as messages show it: tuples as the lists that a file holds, cut where it is long."""
    try:
        text = repr(list(value) if isinstance(value, tuple) else value)
    except Exception:  # the repr of a stranger's object, or a number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


class SharedError(CIRError):
    """An error that all processes of a run have; the first of them prints it."""


def unknown_name(what: str, name: str, known: Iterable[str], *, hint: str = "") -> CIRError:
    """The error for a name that is not there: nearest names, all names, and a hint if any."""
    names = sorted(known)
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}..."
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    message = f"unknown {what} '{name}'"
    if near:
        message += f"; nearest: {', '.join(near)}"
    message += f"\naccepted: {', '.join(names) if names else '(none)'}"
    return CIRError(f"{message}\n{hint}" if hint else message)
