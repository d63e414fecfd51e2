"""The page of runs side by side, query by query, which works from disk without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import cir_plugins.bench.page as bench_page
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically
from cir_plugins.loading import load
from cir_plugins.retriever import Retriever
from cir_plugins.viewer.marks import read_marks, slices_of_text
from cir_plugins.viewer.pictures import SIDE, write_pictures
from cir_plugins.viewer.shown import Showable, Shown, show_runs

PAGE, DATA, CODE, PICTURES = "index.html", "data.js", "view.js", "pictures"
FIRST = 10  # images of each ranking
_TEMPLATES = Path(__file__).parent / "templates"
_FOLDERS = (_TEMPLATES, Path(bench_page.__file__).parent / "templates")


@dataclass(frozen=True)
class View:
    """A page that was written.

    Attributes:
        page: The file to open in a browser.
        queries: Number of queries.
        pictures: Number of pictures beside it.
        unreadable: Image ids without a picture, because their file cannot be read.
    """

    page: Path
    queries: int
    pictures: int
    unreadable: tuple[str, ...] = ()


def view(
    runs: Mapping[str, Showable],
    out: str | PathLike[str],
    *,
    data: str = "",
    root: str | PathLike[str] | None = None,
    protocol: str = "",
    split: str = "val",
    audit: str | PathLike[str] | None = None,
    side: int = SIDE,
    device: str = "",
    feature_cache: str | PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> View:
    """The page of every query with its rankings under each run: what ``cir view`` writes.

    Args:
        runs: Name -> run folder or retriever; the first two are compared when the page opens.
        out: Folder of the page, its data and its pictures.
        data: Name of the data set; the run's own where it is left out.
        root: Its folder; the run's own where both are left out.
        protocol: Preset of its reader.
        split: ``train``, ``val`` or ``test``.
        audit: Folder that ``cir audit`` wrote, for its slices; None for those of the texts alone.
        side: Longest side of a picture, in pixels, from 32 to 1024.
        device: Device of run folders; each run's own where it is left out.
        feature_cache: Folder of cached features of run folders; each run's own if left out.
        progress: Whether bars are shown.
        options: Options of the reader, over the protocol.

    Raises:
        CIRError: If a run or the data cannot be read, the runs are of different queries, the audit
            is of other data, or a file cannot be written.
    """
    check_side(side)
    target = {"data": data, "root": root, "protocol": protocol, "split": split, **options}

    def opened(run: Showable) -> Retriever:
        if isinstance(run, Retriever):
            return run
        return load(Path(run), device=device, feature_cache=feature_cache, progress=progress)

    shown = show_runs(runs, opened, FIRST, target)
    queries = shown.queries
    if audit is None:
        slices = [slices_of_text(query) for _, query in queries]
    else:
        # An audit is of the queries with a target; of the others only the texts are known.
        labelled = [(s.name, q.id) for s, q in queries if q.target is not None]
        marks = iter(read_marks(Path(audit), shown.data, labelled))
        slices = [slices_of_text(q) if q.target is None else next(marks) for _, q in queries]
    folder = Path(out)
    content, names = _content(shown, slices)
    paths = {name: path for each in shown.splits for name, path in each.paths.items()}
    lost = write_pictures(folder / PICTURES, names, paths, side, progress)
    content["lost"] = lost
    # ASCII alone: no character of a caption can end the script or a line of it.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    write_atomically(folder / DATA, f"window.CIR_VIEW={text};\n".encode())
    write_atomically(folder / CODE, (_TEMPLATES / CODE).read_bytes())
    write_atomically(folder / PAGE, _page(shown).encode())
    unreadable = tuple(names[number] for number in lost)
    return View(folder / PAGE, len(queries), len(names) - len(lost), unreadable)


def check_side(side: int) -> None:
    """Check the size of the pictures.

    Raises:
        CIRError: If it is out of its range.
    """
    if not 32 <= side <= 1024:
        raise CIRError(f"side is {side}; accepted: 32 to 1024 pixels")


def _page(shown: Shown) -> str:
    environment = Environment(
        loader=FileSystemLoader(_FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = f"{', '.join(shown.runs)} on {shown.dataset}"
    return environment.get_template("view.html.j2").render(title=title, data=DATA, code=CODE)


def _content(shown: Shown, slices: list[list[str]]) -> tuple[dict[str, Any], list[str]]:
    """The page's data, and the ids of the images in it: its numbers are positions in them."""
    images: dict[str, int] = {}

    def number(name: str | None) -> int:
        return -1 if name is None else images.setdefault(name, len(images))

    labels: dict[str, int] = {}
    queries = []
    for row, (split, query) in enumerate(shown.queries):
        queries.append(
            {
                **_words(split, query),
                "reference": number(query.reference),
                "target": number(query.target),
                # A positive without a number stands in no ranking that is shown.
                "positives": [],
                "ranks": [ranks[row] for ranks, _ in shown.runs.values()],
                "top": [[number(name) for name in top[row]] for _, top in shown.runs.values()],
                "slices": [labels.setdefault(name, len(labels)) for name in slices[row]],
            }
        )
    for entry, (_, query) in zip(queries, shown.queries, strict=True):
        entry["positives"] = [images[name] for name in query.positives if name in images]
    content = {
        "dataset": shown.dataset,
        "protocol": shown.protocol,
        "data": shown.data,
        "notes": shown.notes,
        "runs": list(shown.runs),
        "images": list(images),
        "slices": list(labels),
        "queries": queries,
    }
    return content, list(images)


def _words(split: Split, query: Query) -> dict[str, Any]:
    return {
        "split": split.name,
        "id": query.id,
        "text": query.text,
        "captions": list(query.captions),
        "category": query.category,
        "changed": list(query.changed),
    }
