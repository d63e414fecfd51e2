"""Files from elsewhere: read without executing anything, wrappers around their weights removed."""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from torch import Tensor

from cir_plugins.errors import CIRError

_PARALLEL = "module."
_COMPILED = re.compile(r"(?:^|(?<=\.))_orig_mod\.")
# Attributes under which a Lightning module usually holds its model.
_WRAPPERS = frozenset({"model", "net", "network"})
# What torch's restricted unpickler raises on files that are cut off, altered or something else.
_DAMAGE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error),
)


class Checkpoint(dict[str, Any]):
    """The content of a checkpoint file.

    Prefixes that wrappers add to the names of weights are gone: ``module.`` of data parallelism,
    ``_orig_mod.`` of compiled modules. Of a Lightning checkpoint it is the ``state_dict``.

    Args:
        content: Entry -> state dict or plain value, or key -> tensor.
        file: The file.
        lightning: Whether it is the ``state_dict`` of a Lightning checkpoint.
        wrapper: Attribute of the Lightning module that all keys began with, or "".
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        file: Path,
        *,
        lightning: bool = False,
        wrapper: str = "",
    ) -> None:
        super().__init__(content)
        self.file = file
        self.lightning = lightning
        self.wrapper = wrapper


def load_untrusted(path: Path) -> Mapping[str, Any]:
    """The content of an official checkpoint, tensors and plain values only.

    Unpickling is restricted to tensors, plain containers, numpy scalars, paths and
    ``argparse.Namespace``: anything else in the file is an error and nothing in it is run. Prefixes
    of data parallelism and compilation are removed, and a Lightning checkpoint is its
    ``state_dict``.

    Raises:
        CIRError: If the file is missing, damaged, no table, or holds anything that could run code.
    """
    import torch

    if not path.is_file():
        raise CIRError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        return _unwrapped(_load_safetensors(path), path)
    try:
        # A damaged file may look as if it were of another pickle protocol, which torch warns of.
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_archive(path)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        if name:
            raise CIRError(
                f"checkpoint {path} was not loaded: it uses {name[1]}, which could run code; "
                "nothing in it was run. Accepted: tensors and plain values. Where it was written, "
                "save the weights alone: torch.save({'model': model.state_dict()}, 'weights.pt')"
            ) from error
        reason = _reason(error)
        raise CIRError(
            f"checkpoint {path} is damaged or no checkpoint ({reason}); accepted: files that "
            "torch.save wrote, or safetensors"
        ) from error
    if not isinstance(content, Mapping):
        raise CIRError(f"checkpoint {path} holds a {type(content).__name__}, not a state")
    return _unwrapped(content, path)


def _check_archive(path: Path) -> None:
    """Compare the members of a zip file, as ``torch.save`` writes it, with their checksums.

    torch does not: a flipped bit would be another weight.

    Raises:
        ValueError: If one differs.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    if member is not None:
        raise ValueError(f"the checksum of its member {member} differs")


def _harmless() -> list[Any]:
    """Types beside tensors that run nothing when they are read, under the names in files."""
    import numpy as np

    scalar = getattr(np, "_core", None) or np.core
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    paths: list[Any] = [
        (kind, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name, kind in (
            ("Path", PurePath),
            ("PosixPath", PurePosixPath),
            ("PurePosixPath", PurePosixPath),
            ("WindowsPath", PureWindowsPath),
            ("PureWindowsPath", PureWindowsPath),
        )
    ]
    return [
        *(argparse.Namespace, np.dtype, *dtypes, *paths),
        (_plain_dict, "collections.defaultdict"),
        *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, int, float)),
        *(
            (scalar.multiarray.scalar, f"numpy.{module}.multiarray.scalar")
            for module in ("core", "_core")
        ),
    ]


def _plain_dict(_factory: object = None) -> dict[Any, Any]:
    """What a ``defaultdict`` is read as: torch's reader fills no other kinds of dict."""
    return {}


def _unwrapped(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """A file's content without what wrappers of a model put around its weights."""
    state = content.get("state_dict", {})
    if not _is_state(state):
        return Checkpoint(
            {
                name: _without_prefixes(value) if _is_state(value) else value
                for name, value in _without_prefixes(content).items()
            },
            path,
        )
    state = _without_prefixes(state)
    first = {key.partition(".")[0] for key in state}
    wrapper = next(iter(first)) if len(first) == 1 else ""
    if wrapper not in _WRAPPERS:
        return Checkpoint(state, path, lightning=True)
    state = _without_prefixes({k.removeprefix(f"{wrapper}."): v for k, v in state.items()})
    return Checkpoint(state, path, lightning=True, wrapper=wrapper)


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(each, Tensor) for each in value.values())
        and all(isinstance(key, str) for key in value)
    )


def _without_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state without the prefixes of data parallelism and compilation; others as they are."""
    if not _is_state(state):
        return dict(state)
    names = {key: _COMPILED.sub("", key) for key in state}
    while all(name.startswith(_PARALLEL) for name in names.values()):
        names = {key: name.removeprefix(_PARALLEL) for key, name in names.items()}
    return {name: state[key] for key, name in names.items()}


def _reason(error: Exception) -> str:
    text = re.split(r"WeightsUnpickler error:", str(error))[-1].strip()
    first = text.splitlines()[0][:100] if text else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _load_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(str(path))
        return state
    except (SafetensorError, OSError) as error:
        raise CIRError(f"checkpoint {path} is damaged: {error}") from error
