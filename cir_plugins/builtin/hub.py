"""Files of models by the name of their hub, or from a local folder; without a network at once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cir_plugins.errors import CIRError

_SECONDS = 5.0  # for the hub's first answer
UNREACHABLE = "it is not on this machine, and the hub cannot be reached"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def hub_file(name: str, file: str) -> Path:
    """A file of a model: in the folder of that name, in the cache, or downloaded.

    Args:
        name: Hub name or local folder.
        file: Name of the file.

    Raises:
        CIRError: If there is no such folder, or the hub has no such file or cannot be reached.
    """
    path = find_hub_file(name, file)
    if path is None:
        raise CIRError(f"it has no {file}")
    return path


def find_hub_file(name: str, file: str) -> Path | None:
    """A file of a model as ``hub_file`` finds it, or None where the model has none of that name.

    Raises:
        CIRError: If there is no such folder, or the hub cannot be reached.
    """
    from transformers.utils import cached_file

    local = local_only(name)
    try:
        path = cached_file(
            name,
            file,
            local_files_only=local,
            _raise_exceptions_for_missing_entries=False,
            # Without a network what is not in the cache is missing, whatever the hub has.
            _raise_exceptions_for_connection_errors=not local,
        )
    except (OSError, ValueError) as error:
        raise CIRError(str(error).splitlines()[0]) from error
    if path is None and local and not Path(name).is_dir() and file == "config.json":
        raise CIRError(UNREACHABLE)
    return None if path is None else Path(path)


def from_hub(load: Callable[..., Any], what: str, name: str, *, offline: str = "") -> Any:
    """What ``from_pretrained`` of a class of transformers gives for a hub name or a local folder.

    Args:
        load: The method.
        what: What is loaded, for messages.
        name: Hub name or local folder.
        offline: What can be taken without a network, for messages.

    Raises:
        CIRError: If it cannot be loaded; at once where it is not here and there is no network.
    """
    try:
        local = local_only(name)
        return load(name, local_files_only=local)
    except (OSError, ValueError, CIRError) as error:
        far = isinstance(error, OSError) and local and not Path(name).is_dir()
        reason = UNREACHABLE if far else str(error).splitlines()[0]
        accepted = "accepted: a hub name, or a folder with its files"
        raise CIRError(
            f"{what} '{name}' could not be loaded: {reason}\n{accepted}{without_network(offline)}"
        ) from error


def without_network(choice: str) -> str:
    """The end of a message that names what can be taken without a network; "" for nothing."""
    return f"; without a network also {choice}" if choice else ""


@contextmanager
def hub_asked_once() -> Iterator[None]:
    """A context in which libraries use what is on this machine where the hub cannot be reached.

    Each would else repeat its requests, for half a minute. For libraries whose functions have no
    such argument: open_clip and timm.
    """
    from huggingface_hub import constants

    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    if not _is_reachable():
        constants.HF_HUB_OFFLINE = True
        logging.disable(logging.ERROR)  # open_clip logs what it raises
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)


def local_only(name: str) -> bool:
    """Whether a model can only be on this machine: a folder, or the hub cannot be reached.

    Raises:
        CIRError: If the name is that of a folder that is not there.
    """
    if Path(name).is_dir():
        return True
    if name.startswith((".", "~", os.sep)) or not _HUB_NAME.fullmatch(name):
        raise CIRError(f"no such folder: {name}")
    return not _is_reachable()


@cache
def _is_reachable() -> bool:
    """Whether the hub answers one request, which is not repeated."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # of whichever HTTP library the hub's client uses
        return False
    return True
