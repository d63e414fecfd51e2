"""The table of a data folder of triplets: one file, one for each split, or a saved dataset."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from cir_plugins.data.readers.files import layout_hint, need_folder, short
from cir_plugins.data.readers.triplet_rows import ROLE_WORDS
from cir_plugins.data.tables import ENDINGS, Encoding, Table, is_saved_dataset, join, read_table
from cir_plugins.errors import CIRError

NAME = "triplets"
_ENDING = "|".join(ending.removeprefix(".") for ending in ENDINGS)
# As the hub has them: train.csv, train-00000-of-00002.parquet.
_PART = re.compile(rf"({'|'.join(ROLE_WORDS)})(?:[-_.].*)?\.(?:{_ENDING})", re.IGNORECASE)
# A .json or .txt beside the pictures may be anything.
_ALONE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def picture_folder(root: Path, path: str) -> Path:
    """The folder of the pictures.

    Raises:
        CIRError: It is not below the data folder; a whole disk would be searched.
    """
    pure = PurePath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise CIRError(
            f"data.images is {short(path)}\n"
            "accepted: a folder below the data folder, such as images, or a link in it"
        )
    return Path(root, pure)


def find_table(root: Path, file: str, encoding: Encoding) -> Table:
    """The table of a data folder.

    Without a name it is the dataset that was saved there; else ``triplets.*``; else files named
    after splits, there or in ``data/``; else the only table.

    Args:
        root: Data folder.
        file: The table, seen from that folder, or "".
        encoding: Of a text file.

    Raises:
        CIRError: If there is none or there are several, or it cannot be read.
    """
    need_folder(root)
    if file:
        return read_table(Path(root, file), encoding)
    if is_saved_dataset(root):
        return read_table(root, encoding)
    inside = _tables(root)
    named = [path for path in inside if path.stem.lower() == NAME]
    if len(named) == 1:
        return read_table(named[0], encoding)
    parts = [] if named else _parts(root)
    if parts:
        return _joined(parts[0][1].parent, parts, encoding)
    candidates = named or [path for path in inside if path.suffix.lower() in _ALONE]
    if len(candidates) != 1:
        raise _no_table(root, candidates)
    return read_table(candidates[0], encoding)


def _tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    return [path for path in files if not path.name.startswith(".")]


def _parts(root: Path) -> list[tuple[str, Path]]:
    """Word of the split and file, where files are named after splits."""
    for folder in (root, root / "data"):
        matches = [(_PART.fullmatch(path.name), path) for path in _tables(folder)]
        parts = [(match[1].lower(), path) for match, path in matches if match]
        if parts:
            return parts
    return []


def _joined(folder: Path, parts: list[tuple[str, Path]], encoding: Encoding) -> Table:
    words = [word for word, _ in parts]
    splits = {word if words.count(word) == 1 else path.name: word for word, path in parts}
    tables = [read_table(path, encoding) for _, path in parts]
    return join(str(folder), dict(zip(splits, tables, strict=True)), splits)


def _no_table(root: Path, candidates: list[Path]) -> CIRError:
    if candidates:
        names = ", ".join(path.name for path in candidates[:10])
        return CIRError(
            f"{root} has several tables: {names}\n"
            f"accepted: one, or its name: --set data.file={candidates[0].name}"
        )
    return CIRError(
        f"no table of triplets in {root}\nlooked for: {root}/{NAME}.({_ENDING}), "
        f"train.* and val.*, or a dataset saved there{layout_hint(root, NAME)}"
    )
