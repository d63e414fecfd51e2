"""Calls into plugins: whatever they raise is one error that names them."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pluggy

from cir_plugins.errors import CIRError

SLOW_SECONDS = 3.0  # the import of a plugin that takes longer is announced
SLOW_MODEL_SECONDS = 15.0  # that of a component, which may bring large libraries
_LONGEST = 1_000  # characters of a plugin's message
_HOST = str(Path(__file__).parent.parent)
_HERE = (f"{_HOST}/plugins/", f"{_HOST}/config/", f"{_HOST}/runs/build.py", "<frozen")
_LOG = logging.getLogger(__name__)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """A context in which everything raised becomes an error, ``KeyboardInterrupt`` excepted.

    A plugin may end the program (``sys.exit``) or raise what is no ``Exception``: its host goes on.

    Args:
        what: The start of the message, such as ``loss 'x' of plugin 'y' cannot be built``.

    Raises:
        CIRError: For whatever is raised; one of ours stays as it is where its text is short.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except CIRError as error:
        text = message_of(error)
        if _is_whole(error, text):
            raise
        raise CIRError(f"{what}: {text}") from error
    except BaseException as error:
        raise CIRError(f"{what}: {reason_of(error)}") from error


def _is_whole(error: CIRError, text: str) -> bool:
    try:
        return str(error) == text
    except Exception:  # another text each time, or one that raises
        return False


@contextmanager
def announced(what: str, seconds: float = SLOW_SECONDS) -> Iterator[None]:
    """A context that prints on stderr what is still being loaded, if it takes long.

    Args:
        what: What is loaded, such as ``plugin 'x' (module:attribute)``.
        seconds: What counts as long.
    """
    timer = threading.Timer(
        seconds, _LOG.warning, ("still loading %s after %.0f seconds", what, seconds)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def message_of(error: BaseException) -> str:
    """An error's message, cut where it is long; a sentence where it has none that can be had."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # the message of a stranger's error is a stranger's code
        return f"(its message cannot be shown: {type(second).__name__})"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def reason_of(error: BaseException) -> str:
    """What was raised and, unless the message is ours, the line that raised it."""
    text = message_of(error)
    if isinstance(error, (CIRError, pluggy.PluginValidationError)):
        return text
    name = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:  # not where it was imported
        return f"{name}: {error.msg} ({error.filename}:{error.lineno})"
    reason = f"{name}: {text}" if text else name
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if not frame.filename.startswith(_HERE)]
    return f"{reason} ({inner[-1].filename}:{inner[-1].lineno})" if inner else reason
