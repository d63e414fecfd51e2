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

if TYPE_CHECKING:
    from cir_plugins.retriever import Retriever


@dataclass(frozen=True)
class Server:
    """What a test server takes: the blind split, and its files by name."""

    blind: str
    files: Mapping[str, Form]


SERVERS: Mapping[str, Server] = MappingProxyType(
    {
        "cirr": Server("test1", {"recall.json": CIRR_RECALL, "recall_subset.json": CIRR_SUBSET}),
        "circo": Server("test", {"circo.json": CIRCO_RANKING}),
    }
)


def need_server(data: str) -> None:
    """Check that a data set has a test server.

    Raises:
        CIRError: If it has none.
    """
    if data not in SERVERS:
        raise CIRError(
            f"data set '{data}' has no test server; --submission accepts: {', '.join(SERVERS)}"
        )


def submit(
    retriever: Retriever,
    out: Path,
    *,
    data: str,
    root: Path | None,
    protocol: str,
    options: Mapping[str, Any],
    split: str,
) -> list[Path]:
    """The files written to ``out`` for the data set's test server.

    Raises:
        CIRError: If the data set has no test server, or no such split.
    """
    name = data or retriever.plan.data.name
    need_server(name)
    server = SERVERS[name]
    ranked = retriever.rank(
        data,
        root,
        protocol=protocol,
        split=split,
        k=max(form.count for form in server.files.values()) + 1,
        # A group's members may stand anywhere in the ranking of the gallery.
        groups=any(form.in_group for form in server.files.values()),
        **{"splits": (server.blind if split == "test" else split,), **options},
    )
    if not ranked:
        raise CIRError(f"data set '{name}' has no split for '{split}' in its folder")
    files = []
    for each, images in ranked:
        by_query = dict(zip((query.id for query in each.queries), images, strict=True))
        for file_name, form in server.files.items():
            file = out / (file_name if len(ranked) == 1 else f"{each.name}.{file_name}")
            write_submission(file, form, by_query, each)
            files.append(file)
    return files
