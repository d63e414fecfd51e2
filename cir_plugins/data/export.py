"""The triplets of any data set as the table that the reader ``triplets`` takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cir_plugins.data.split import Query, Split
from cir_plugins.data.tables import csv_bytes
from cir_plugins.errors import CIRError
from cir_plugins.files import write_atomically

_IMAGES = "images"  # the reader's own picture folder
_FILE = "triplets.csv"  # and its table


@dataclass(frozen=True)
class Exported:
    """A table that was written.

    Attributes:
        file: The file.
        rows: Number of triplets.
        use: Words of a command that reads it.
        notes: What it does not hold.
    """

    file: Path
    rows: int
    use: str
    notes: tuple[str, ...]


def export_triplets(splits: Sequence[Split], root: Path, file: Path) -> Exported:
    """Write the triplets of splits as CSV; a triplet with several texts is one row.

    Further positives are written as products, where they are the same for every picture of a
    product. A picture is named by its path below the folder of all pictures.

    Args:
        splits: Splits with all pictures in place.
        root: Folder of the data set.
        file: The table, which must end in .csv.

    Raises:
        CIRError: If the ending is another one, there is no triplet, or it cannot be written.
    """
    if file.suffix.lower() != ".csv":
        raise CIRError(f"the triplets cannot be written to {file}\naccepted: a name with .csv")
    folder = _picture_folder(splits, root)
    groups = [_groups(split.queries) for split in splits]
    rows: dict[tuple[str, ...], None] = {}
    captions = max((len(q.captions) for split in splits for q in split.queries), default=1)
    for split, members in zip(splits, groups, strict=True):
        names = {name: _name(path, folder) for name, path in split.paths.items()}
        rows |= dict.fromkeys(_rows(split, names, members or {}, captions))
    if not rows:
        raise CIRError(f"no triplet to write to {file}: the data set has no query")
    header = ("reference", *_text_columns(captions), "target", "split", "category")
    header += ("group", "reference_group")
    empty = [place for place in range(len(header)) if not any(row[place] for row in rows)]
    kept = [place for place in range(len(header)) if place not in empty or header[place] in _KEPT]
    table = csv_bytes(
        [header[place] for place in kept], [[row[place] for place in kept] for row in rows]
    )
    write_atomically(file, table)
    return Exported(file, len(rows), _use(splits, root, file, folder), _notes(splits, groups))


_KEPT = ("reference", "text", "target", "split")


def _text_columns(count: int) -> tuple[str, ...]:
    return ("text", *(f"text_{number}" for number in range(2, count + 1)))


def _rows(
    split: Split, names: Mapping[str, str], members: Mapping[str, str], captions: int
) -> Iterator[tuple[str, ...]]:
    for query in split.queries:
        texts = [caption for caption in query.captions if caption.strip()]
        yield (
            names[query.reference],
            *(texts + [""] * captions)[:captions],
            names.get(query.target or "", ""),
            split.role,
            query.category,
            names.get(members.get(query.target or "", ""), ""),
            names.get(members.get(query.reference, ""), ""),
        )


def _picture_folder(splits: Sequence[Split], root: Path) -> Path:
    """The folder ``images`` if it holds all pictures, else the data folder.

    Raises:
        CIRError: If a picture is in neither.
    """
    paths = [path for split in splits for path in split.paths.values()]
    for folder in (root / _IMAGES, root):
        if all(path.is_relative_to(folder) for path in paths):
            return folder
    raise CIRError(f"the pictures are not in {root}, so that no table beside them can name them")


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _groups(queries: Sequence[Query]) -> dict[str, str] | None:
    """Picture -> first picture of its product; None if the positives are no products.

    They are, if each query's positives are its target's product without the reference.
    """
    above: dict[str, str] = {}

    def find(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    for query in queries:
        for name in query.positives[1:]:
            first, second = sorted((find(query.positives[0]), find(name)))
            above[second] = first
    products: dict[str, set[str]] = {}
    for name in above:
        products.setdefault(find(name), set()).add(name)
    for query in queries:
        if query.target:
            product = products.get(find(query.target), {query.target})
            if product - {query.reference} != set(query.positives) - {query.reference}:
                return None
    return {name: find(name) for name in list(above) if len(products.get(find(name), ())) > 1}


def _use(splits: Sequence[Split], root: Path, file: Path, folder: Path) -> str:
    name = str(file.absolute())
    if file.absolute().is_relative_to(root.absolute()):
        name = file.absolute().relative_to(root.absolute()).as_posix()
    words = f"--data triplets --root {shlex.quote(str(root))}"
    if name != _FILE:
        words += f" --set data.file={shlex.quote(name)}"
    if folder == root:
        words += " --set data.images=."
    roles = [split.role for split in splits]
    return words + (" --set data.by_category=true" if len(set(roles)) < len(roles) else "")


def _notes(splits: Sequence[Split], groups: Sequence[Mapping[str, str] | None]) -> tuple[str, ...]:
    lost = sum(
        len(query.positives) > 1
        for split, members in zip(splits, groups, strict=True)
        if members is None
        for query in split.queries
    )
    return (
        (f"{lost:,} queries have further positives that are no products: not in the file",)
        if lost
        else ()
    )
