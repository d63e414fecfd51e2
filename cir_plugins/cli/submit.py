"""Files for the test servers, from a run's rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cir_plugins.errors import CIRError
from cir_plugins.retrieval.submission import (
    CIRCO_RANKING,
    CIRR_RECALL,
    CIRR_SUBSET,
    Form,
    write_submission,
)
from cir_plugins.runs.load import rank_run

if TYPE_CHECKING:
    from cir_plugins.plugins.registry import Registry


@dataclass(frozen=True)
class _Server:
    """What a test server asks: the blind split, and its files by name."""

    blind: str
    files: Mapping[str, Form]


_SERVERS: Mapping[str, _Server] = MappingProxyType(
    {
        "cirr": _Server("test1", {"recall.json": CIRR_RECALL, "recall_subset.json": CIRR_SUBSET}),
        "circo": _Server("test", {"circo.json": CIRCO_RANKING}),
    }
)


def submit(
    run: Path,
    registry: Registry,
    out: Path,
    *,
    data: str,
    root: Path,
    options: Mapping[str, Any],
    split: str,
) -> list[Path]:
    """The files written to ``out`` for the data set's test server.

    Raises:
        CIRError: If the data set has no test server, or no such split.
    """
    if data not in _SERVERS:
        raise CIRError(
            f"data set '{data}' has no test server; --submission accepts: {', '.join(_SERVERS)}"
        )
    server = _SERVERS[data]
    forms = server.files
    read = {"splits": [server.blind if split == "test" else split], **options}
    ranked = rank_run(
        run,
        registry,
        data=data,
        root=root,
        options=read,
        split=split,
        depth=max(form.count for form in forms.values()) + 1,
        # A group's members may stand anywhere in the ranking of the gallery.
        groups=any(form.in_group for form in forms.values()),
    )
    if not ranked:
        raise CIRError(f"data set '{data}' in {root} has no split for '{split}'")
    written = []
    for part, images in ranked:
        rankings = dict(zip((query.id for query in part.queries), images, strict=True))
        for name, form in forms.items():
            file = out / (name if len(ranked) == 1 else f"{part.name}.{name}")
            write_submission(file, form, rankings, part)
            written.append(file)
    return written
