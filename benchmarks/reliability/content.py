"""What folders hold, in a form in which a disturbed one must equal an undisturbed one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Files that hold times or are drawn from the others.
_DERIVED = frozenset({"results.md", "index.html", ".lock"})
_PARTIAL = ".part"


def run_content(folder: Path) -> dict[str, Any]:
    """Files of a run's or a suite's folder: weights tensor for tensor, the rest without seconds."""
    return {
        path.relative_to(folder).as_posix(): file_content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _DERIVED
    }


def file_content(path: Path) -> Any:
    """What a file holds, without seconds."""
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].tolist() for name in arrays.files}
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    return _digest(path.read_bytes())


def _tensors(path: Path) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = sorted(file.keys())
        metadata = file.metadata() or {}
        # The log of a checkpoint holds seconds, and so do the checksums of what holds it.
        facts = {name: _json(text) for name, text in metadata.items() if name != "checksums"}
        tensors = {name: file.get_tensor(name) for name in names}
    hashes = {
        name: [str(t.dtype), list(t.shape), _digest(t.reshape(-1).contiguous().numpy().tobytes())]
        for name, t in tensors.items()
    }
    return {"facts": timeless(facts), "tensors": hashes}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def timeless(value: Any) -> Any:
    """A plain value without what measures time, in JSON within strings too."""
    if isinstance(value, Mapping):
        kept = {k: timeless(v) for k, v in value.items() if not _measures_time(str(k))}
        if len(kept) < len(value):
            kept.pop("checksum", None)  # it is over the seconds, too
        return kept
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if isinstance(value, str) and value.startswith(("{", "[")):
        inner = _json(value)
        return value if inner is value else timeless(inner)
    return value


def _measures_time(name: str) -> bool:
    return "seconds" in name or "per_second" in name or name == "created"


def cache_content(folder: Path) -> dict[str, Any]:
    """Features in a cache: fingerprint and image -> hash of its features, whatever the shards.

    Those of damaged shards are left out.
    """
    from cir_plugins.encoding.shards import DamagedShardError, Shard

    result = {}
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            shard = Shard(path)
            rows = [shard.row(place) for place in range(len(shard.names))]
        except DamagedShardError:
            continue
        for name, row in zip(shard.names, rows, strict=True):
            content = b"".join(tensor.numpy().tobytes() for tensor in row)
            result[f"{path.parent.name}/{name}"] = _digest(content)
    return result


def partial_files(folder: Path) -> list[str]:
    """Files that were being written."""
    return [path.name for path in folder.rglob(f"*{_PARTIAL}")]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def difference(before: Any, after: Any, place: str = "") -> str:
    """The first place in which two plain values differ; "" where they are equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            here = f"{place}/{key}"
            if key not in after or key not in before:
                return f"{here} is {'missing' if key in before else 'new'}"
            if inner := difference(before[key], after[key], here):
                return inner
        return ""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return next((d for i, (b, a) in pairs if (d := difference(b, a, f"{place}[{i}]"))), "")
    return "" if before == after else f"{place}: {str(before)[:80]} became {str(after)[:80]}"
