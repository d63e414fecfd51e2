"""Reads i-CIR and folders laid out like it.

Files: ``query_files.csv`` and ``database_files.csv``, in the data folder or its ``annotations``,
with lines ``image path,text,instance`` and no header; the pictures at these paths below the data
folder, whose own name a path may begin with.

Source: Psomas et al., 2025, arXiv 2510.25387.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from cir_plugins.data.captions import Captions, CaptionSwitches
from cir_plugins.data.readers.files import (
    need_folder,
    no_training_split,
    nothing_to_read,
    read_lines,
    short,
)
from cir_plugins.data.readers.missing import Missing, settle_all
from cir_plugins.data.readers.pictures import PictureFolder
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

_FOLDERS = ("", "annotations")
_FILES = ("query_files.csv", "database_files.csv")
_MEASURES = (
    *("map@10", "map@50", "map@100"),
    *("any_recall@1", "any_recall@5", "any_recall@10", "any_recall@50"),
)


@dataclass(frozen=True)
class ICIR(CaptionSwitches):
    """Reader of the i-CIR layout; calling it with a folder gives one split per instance.

    A query ranks the database of its instance alone; its positives are the images there with its
    text. i-CIR has no training split.

    Attributes:
        instances: The instances to read, or none for all.
        splits: Only ``val`` can be read.
        missing: What to do about queries and database images without a picture.
    """

    instances: tuple[str, ...] = ()
    splits: tuple[Literal["val"], ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({"default": {}})

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder in the order of the query file, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: str(Path(root) / name),
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        if "train" in self.splits:
            raise no_training_split("icir")
        folder = next((root / f for f in _FOLDERS if (root / f / _FILES[0]).exists()), None)
        if folder is None:
            files = " or ".join(str(root / folder / _FILES[0]) for folder in _FOLDERS)
            raise nothing_to_read(root, files, "icir")
        queries, database = (_read(folder / name) for name in _FILES)
        for name in self.instances:
            if name not in queries:
                raise CIRError(f"{folder / _FILES[0]} has no instance '{name}'")
        rules = self.caption_rules()
        pictures = PictureFolder.below(root)
        return [
            _split(name, queries[name], database.get(name, ()), rules, pictures)
            for name in self.instances or queries
        ]

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"the paths of {' and '.join(_FILES)} in {root}, also without their first folder"


class _Line(NamedTuple):
    """A line of a file: an image, the text that it fits or is changed by, and where it stands."""

    image: str
    text: str
    where: str


def _read(file: Path) -> dict[str, list[_Line]]:
    """The lines of each instance."""
    lines: dict[str, list[_Line]] = {}
    for label, line in read_lines(file):
        try:
            fields = next(csv.reader([line], strict=True))
        except (csv.Error, StopIteration) as error:
            raise CIRError(f"{file}, {label} is not a line of CSV: {short(line)}") from error
        if len(fields) != 3 or not all(fields):
            raise CIRError(
                f"{file}, {label} is {short(line)}\naccepted: an image path, a text and an instance"
            )
        image, text, instance = fields
        lines.setdefault(instance, []).append(_Line(image, text, f"{file}, {label}"))
    return lines


def _split(
    name: str,
    lines: Sequence[_Line],
    database: Sequence[_Line],
    rules: Captions,
    pictures: PictureFolder,
) -> Split:
    fitting: dict[str, list[str]] = {}
    for line in database:
        fitting.setdefault(line.text, []).append(line.image)
    queries = tuple(
        _query(number, line, tuple(dict.fromkeys(fitting.get(line.text, ()))), rules)
        for number, line in enumerate(lines)
    )
    gallery = tuple(dict.fromkeys(line.image for line in database))
    return Split(
        name=name,
        role="val",
        queries=queries,
        gallery=gallery,
        paths=_paths((*gallery, *(query.reference for query in queries)), pictures),
        measures=_MEASURES,
        main=("map@100",),
        captions=rules,
    )


def _query(number: int, line: _Line, positives: tuple[str, ...], rules: Captions) -> Query:
    if not positives:
        raise CIRError(f"{line.where}: no image of the database has its instance and text")
    return Query(
        id=str(number),
        reference=line.image,
        captions=(line.text,),
        text=rules.texts((line.text,))[0],
        target=positives[0],
        positives=positives,
    )


def _paths(names: Sequence[str], pictures: PictureFolder) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for relative in (PurePosixPath(*parts), PurePosixPath(*parts[1:])):
            if str(relative) in pictures.files:
                paths[name] = pictures.files[str(relative)]
                break
    return paths
