"""Reads CIRR, version rc2, and every data set laid out like it.

Files: ``captions/cap.rc2.<train|val|test1>.json`` and ``image_splits/split.rc2.<...>.json``, in the
data folder or its ``cirr``. Beside them may lie ``attributes.json``: images with a target's
attributes are further positives. The pictures' paths are looked for in the data folder and in its
``images`` and ``img_raw``; names are unique, so that a picture elsewhere or with another ending is
found by name.

Source: Liu et al., 2021, arXiv 2108.04024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches
from cir_plugins.data.readers.attributes import read_attributes
from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    nothing_to_read,
    read_entries,
    read_table,
    short,
    unique,
)
from cir_plugins.data.readers.missing import Missing, settle_all
from cir_plugins.data.readers.pictures import ENDINGS, PictureFolder, ambiguity_notes
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

Name: TypeAlias = Literal["train", "val", "test1"]
NAMES: tuple[Name, ...] = ("train", "val", "test1")
_ROLES: Mapping[Name, Literal["train", "val", "test"]] = MappingProxyType(
    {"train": "train", "val": "val", "test1": "test"}
)
_FOLDERS = ("images", "img_raw")
_INNER = "cirr"
_RECALLS = ("recall@1", "recall@5", "recall@10", "recall@50")
_ALL_POSITIVES = ("any_recall@1", "any_recall@5", "map@10")
_SUBSET_RECALLS = ("subset_recall@1", "subset_recall@2", "subset_recall@3")


@dataclass(frozen=True)
class CIRR(CaptionSwitches):
    """Reader of the CIRR layout; calling it with a folder gives its splits.

    A split whose caption file is not there is left out. The gallery is the split file, in its
    order, never the picture folder, which holds more.

    Attributes:
        drop_reference: Whether a query's reference leaves its ranking, as the official measure has
            it. The subset never holds the reference.
        splits: The splits to read, or none for all that are there.
        missing: What to do about triplets and gallery images without a picture.
    """

    drop_reference: bool = True
    splits: tuple[Name, ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({"default": {}})

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val before test1, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        root = Path(root)
        splits = self.annotations(root)
        return settle_all(
            splits, self.missing, lambda name: _where(root, splits, name), self.looked_for(root)
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        names = [name for name in self._names if _caption_file(root, name).exists()]
        if not names:
            which = "|".join(self._names)
            files = f"{_caption_file(root, which)} or {_caption_file(root / _INNER, which)}"
            raise nothing_to_read(root, files, "cirr")
        rules = self.caption_rules()
        pictures = PictureFolder.below(root, _FOLDERS)
        return [self._split(root, name, rules, pictures) for name in names]

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        files = [_caption_file(Path(root), name) for name in self._names]
        notes = [
            f"{file} is not there: its split is left out" for file in files if not file.exists()
        ]
        pictures = PictureFolder.below(Path(root), _FOLDERS)
        # One that lies where its split file has it is not looked for by name.
        elsewhere = {
            image: None
            for name, file in zip(self._names, files, strict=True)
            if file.exists()
            for image, path in _read_paths(_split_file(Path(root), name)).items()
            if path not in pictures.files and image in pictures.names
        }
        choice = "put it where its image_splits file has it"
        return notes + ambiguity_notes(elsewhere, pictures.names, choice)

    def protocol_facts(self, root: Path) -> Mapping[str, str]:
        """What is ranked."""
        return {"gallery": "the images of the split file; subset: the query's group"}

    @property
    def _names(self) -> tuple[Name, ...]:
        """Names of the splits that are read; one may be asked for by its role."""
        asked: Sequence[str] = self.splits
        return tuple(n for n in NAMES if n in asked or _ROLES[n] in asked) if asked else NAMES

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        folders = ", ".join(str(Path(root, folder)) for folder in ("", *_FOLDERS))
        return f"the paths of image_splits in {folders}; {root}/**/<image>.{ENDINGS}"

    def _split(self, root: Path, name: Name, rules: Captions, pictures: PictureFolder) -> Split:
        paths = _read_paths(_split_file(root, name))
        attributes = read_attributes(_annotation_folder(root) / "attributes.json")
        queries = attributes.with_positives(
            _queries(_caption_file(root, name), _ROLES[name], paths, rules), tuple(paths)
        )
        return Split(
            name=name,
            role=_ROLES[name],
            queries=queries,
            gallery=tuple(paths),
            paths=pictures.paths(paths),
            drop_reference=self.drop_reference,
            measures=_RECALLS + _SUBSET_RECALLS + (_ALL_POSITIVES if attributes.of else ()),
            main=("recall@5", "subset_recall@1"),
            captions=rules,
        )


def _annotation_folder(root: Path) -> Path:
    """The data folder, or the folder in it that CLIP4Cir's README puts the annotations in."""
    here = any(root.glob("captions/cap.rc2.*.json"))
    return root / _INNER if not here and (root / _INNER / "captions").is_dir() else root


def _caption_file(root: Path, name: str) -> Path:
    return _annotation_folder(root) / "captions" / f"cap.rc2.{name}.json"


def _split_file(root: Path, name: str) -> Path:
    return _annotation_folder(root) / "image_splits" / f"split.rc2.{name}.json"


def _where(root: Path, splits: Sequence[Split], name: str) -> str:
    for split in splits:
        path = _read_paths(_split_file(root, split.name)).get(name)
        if path:
            return str(root / path)
    return str(root / name)


def _read_paths(file: Path) -> dict[str, str]:
    """Image name -> relative path with forward slashes, from a split file."""
    paths: dict[str, str] = {}
    for name, value in read_table(file).items():
        path = PurePosixPath(value) if isinstance(value, str) and value else None
        if path is None or path.is_absolute() or ".." in path.parts:
            accepted = "accepted: a path below the data folder, such as './dev/dev-1-0-img1.png'"
            raise CIRError(f"{file}, image '{name}' has {short(value)}\n{accepted}")
        paths[name] = str(path)
    return paths


def _queries(file: Path, role: str, paths: Mapping[str, str], rules: Captions) -> Iterator[Query]:
    entries = read_entries(file)
    unique(((entry, str(entry.number("pairid"))) for entry in entries), "pairid")
    for entry in entries:
        blind = role == "test" and "target_hard" not in entry.fields
        target = None if blind else entry.text("target_hard")
        reference = entry.text("reference")
        members = entry.child("img_set").texts("members")
        _check_members(entry, members, reference, target)
        for name in members if target is None else (*members, target):
            if name not in paths:
                raise CIRError(f"{file}, {entry.label}: '{name}' is not in its image_splits file")
        caption = entry.text("caption")
        yield Query(
            id=str(entry.number("pairid")),
            reference=reference,
            captions=(caption,),
            text=rules.texts((caption,))[0],
            target=target,
            positives=() if target is None else (target,),
            group=tuple(name for name in members if name != reference),
        )


def _check_members(
    entry: Entry, members: Sequence[str], reference: str, target: str | None
) -> None:
    distinct = set(members)
    if len(distinct) != len(members):
        raise CIRError(f"{entry.file}, {entry.label}: 'members' has an image twice")
    for name in (reference, target):
        if name is not None and name not in distinct:
            raise CIRError(f"{entry.file}, {entry.label}: '{name}' is not among its 'members'")
