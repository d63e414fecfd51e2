"""The error where the library that a module joins is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def installed(extra: str, *libraries: str) -> Iterator[None]:
    """Imports of some libraries; one that is missing ends in the command that installs it.

    Args:
        extra: What to install: an extra of ``cir-plugins`` in brackets, or nothing for a library
            that it brings anyway.
        libraries: Their import names.

    Raises:
        ModuleNotFoundError: With the command, if one of them is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in libraries:
            raise
        raise ModuleNotFoundError(
            f"{missing} is not installed; install it with: pip install './DIR{extra}', "
            "where DIR is the folder of cir-plugins",
            name=missing,
        ) from error
