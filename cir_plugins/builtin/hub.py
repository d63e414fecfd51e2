"""Files of models by the name of their hub, or from a local folder; without a network at once."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from cir_plugins.errors import CIRError

_SECONDS = 5.0  # for the hub's first answer
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
        raise CIRError("it is not on this machine, and the hub cannot be reached")
    return None if path is None else Path(path)


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
