"""Reads LaSCo and every data set with annotations like it.

Files: ``lasco_<train|val>.json`` with objects ``{"qid", "query-image": [id, path], "query-text",
"target-image": [id, path]}``, and where it is there ``lasco_<train|val>_corpus.json`` with the
``{"id", "path"}`` of the images that are ranked. They lie in the data folder, its ``downloads``,
``captions`` or ``metadata``. A picture is found by its path below the data folder, ``images`` or
``coco``, else by its name.

Source: Levy et al., 2024, arXiv 2303.09429.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches
from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    nothing_to_read,
    read_entries,
    unique,
)
from cir_plugins.data.readers.missing import Missing, settle_all
from cir_plugins.data.readers.pictures import ENDINGS, PictureFolder
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

Role: TypeAlias = Literal["train", "val"]
ROLES: tuple[Role, ...] = ("train", "val")
_FOLDERS = ("", "downloads", "captions", "metadata")
_PICTURES = ("images", "coco")
_RECALLS = ("recall@1", "recall@5", "recall@10", "recall@50")


@dataclass(frozen=True)
class LaSCo(CaptionSwitches):
    """Reader of the LaSCo layout; calling it with a folder gives its splits.

    A split whose file is not there is left out. The gallery is the corpus file, in its order, else
    the images of the triplets.

    Attributes:
        drop_reference: Whether a query's reference leaves its ranking.
        splits: The splits to read, or none for all that are there.
        missing: What to do about triplets and gallery images without a picture.
    """

    drop_reference: bool = False
    splits: tuple[Role, ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {"default": {}, "drop_reference": {"drop_reference": True}}
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: f"the file of image {name} below {root}",
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        files = {
            role: _annotation_file(root, f"lasco_{role}.json") for role in self.splits or ROLES
        }
        if not any(file.exists() for file in files.values()):
            raise nothing_to_read(root, " or ".join(map(str, files.values())), "lasco")
        rules = self.caption_rules()
        pictures = PictureFolder.below(root, _PICTURES)
        return [
            self._split(root, role, file, rules, pictures)
            for role, file in files.items()
            if file.exists()
        ]

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        notes: list[str] = []
        for role in self.splits or ROLES:
            corpus = _annotation_file(Path(root), f"lasco_{role}_corpus.json")
            if not _annotation_file(Path(root), f"lasco_{role}.json").exists():
                notes.append(f"lasco_{role}.json is not there: its split is left out")
            elif not corpus.exists():
                notes.append(f"{corpus} is not there: the gallery is the images of the triplets")
        return notes

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        folders = ", ".join(str(Path(root, folder)) for folder in ("", *_PICTURES))
        return f"the paths of the annotations in {folders}; {root}/**/<name>.{ENDINGS}"

    def _split(
        self, root: Path, role: Role, file: Path, rules: Captions, pictures: PictureFolder
    ) -> Split:
        paths: dict[str, str] = {}
        queries = tuple(_queries(file, rules, paths))
        corpus = _annotation_file(root, f"lasco_{role}_corpus.json")
        gallery = (
            _gallery(corpus, queries, paths) if corpus.exists() else tuple(sorted(paths, key=int))
        )
        return Split(
            name=role,
            role=role,
            queries=queries,
            gallery=gallery,
            paths=_files(paths, pictures),
            drop_reference=self.drop_reference,
            measures=_RECALLS,
            main=_RECALLS[:3],
            captions=rules,
        )


def _annotation_file(root: Path, name: str) -> Path:
    """The file in the first of the folders that has it, else where it should be."""
    files = [root / folder / name for folder in _FOLDERS]
    return next((file for file in files if file.exists()), files[0])


def _files(paths: Mapping[str, str], pictures: PictureFolder) -> dict[str, Path]:
    """Image id -> file: by its path, else by the name in it."""
    named = pictures.paths({PurePosixPath(path).stem: path for path in paths.values()})
    found = {name: PurePosixPath(path).stem for name, path in paths.items()}
    return {name: named[stem] for name, stem in found.items() if stem in named}


def _queries(file: Path, rules: Captions, paths: dict[str, str]) -> Iterator[Query]:
    """The queries of a file; the images that they name are added to ``paths``."""
    entries = read_entries(file)
    unique(((entry, str(entry.number("qid"))) for entry in entries), "qid")
    for entry in entries:
        reference, target = (_image(entry, key, paths) for key in ("query-image", "target-image"))
        caption = entry.text("query-text")
        yield Query(
            id=str(entry.number("qid")),
            reference=reference,
            captions=(caption,),
            text=rules.texts((caption,))[0],
            target=target,
            positives=(target,),
        )


def _image(entry: Entry, key: str, paths: dict[str, str]) -> str:
    match entry.fields.get(key):
        case [int(number), str(path)] if path and number >= 0 and not isinstance(number, bool):
            return _add(paths, str(number), path, entry)
    raise entry.wrong(
        key, "the image's number and its path: [42, 'val2014/COCO_val2014_...42.jpg']"
    )


def _add(paths: dict[str, str], name: str, path: str, entry: Entry) -> str:
    before = paths.setdefault(name, path)
    if PurePosixPath(before).stem != PurePosixPath(path).stem:
        raise CIRError(
            f"{entry.file}, {entry.label} has another path for image {name}: {path}, not {before}"
        )
    return name


def _gallery(file: Path, queries: tuple[Query, ...], paths: dict[str, str]) -> tuple[str, ...]:
    """The images of a corpus file; their paths are added to ``paths``."""
    entries = read_entries(file)
    unique(((entry, str(entry.number("id"))) for entry in entries), "id")
    ids = tuple(
        _add(paths, str(entry.number("id")), entry.text("path"), entry) for entry in entries
    )
    have = frozenset(ids)
    for query in queries:
        if query.target not in have:
            raise CIRError(f"{file} lacks image {query.target}, the target of query {query.id}")
    return ids
