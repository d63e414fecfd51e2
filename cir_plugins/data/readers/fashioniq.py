"""Reads FashionIQ and every data set laid out like it.

Files: ``captions/cap.<category>.<train|val|test>.json``, ``image_splits/split.<...>.json``, the
pictures in ``images/``, and where there are any ``attributes.json`` and ``meta/kinds.<...>.json``.

Source: Wu et al., 2021, arXiv 1905.12794.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches, JoinMode
from cir_plugins.data.readers.attributes import Attributes, read_attributes, read_kinds
from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    nothing_to_read,
    read_entries,
    read_names,
    short,
)
from cir_plugins.data.readers.missing import Missing, image_ids, settle_all
from cir_plugins.data.readers.pictures import (
    ENDINGS,
    ambiguity_notes,
    list_pictures,
    pictures_by_name,
)
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError, unknown_name

Role: TypeAlias = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")
_CAPTION_FILE = re.compile(r"cap\.(.+)\.(train|val|test)\.json")
CIRR_VERSION = "rc2"  # where CIRR's caption files have a category
_RECALLS = ("recall@1", "recall@5", "recall@10", "recall@50")
_ALL_POSITIVES = ("any_recall@1", "any_recall@5", "any_recall@10", "map@5", "map@10")
_LAVIS: Mapping[str, object] = {"lower": True, "symbols": "blank"}
_GALLERIES: Mapping[str, str] = {
    "original": "the images of the category's split file",
    "val": "the references and targets of the category's triplets",
    "merged": "the split files of all categories in one",
}
_VAL: Mapping[str, object] = {"gallery": "val", "drop_reference": True}


@dataclass(frozen=True)
class FashionIQ(CaptionSwitches):
    """Reader of the FashionIQ layout; calling it with a folder gives its splits.

    Attributes:
        gallery: ``original``: the images of the category's split file. ``val``: the references and
            targets of the category's triplets (the VAL split). ``merged``: one split per role with
            the original galleries of all categories in one.
        drop_reference: Whether a query's reference leaves its ranking.
        splits: The splits to read, or none for all that are there.
        categories: Categories to read, or none for all that the files name.
        missing: What to do about triplets and gallery images without a picture.
        images: Folder of the pictures, below the data folder.
        caption_mode: How the captions of a triplet are joined (``cir_plugins.Captions``).
    """

    gallery: Literal["original", "val", "merged"] = "original"
    drop_reference: bool = False
    splits: tuple[Role, ...] = ()
    categories: tuple[str, ...] = ()
    missing: Missing = "error"
    images: str = "images"
    caption_mode: JoinMode = "and"
    capitalise: bool = field(default=True, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {
            "original": {},
            "val": _VAL,
            "merged": {"gallery": "merged"},
            "clip4cir": {"caption_mode": "four_way"},
            "bi_blip4cir": {"caption_mode": "four_way"},
            "sprc": {"caption_mode": "four_way", **_LAVIS, "max_words": 50},
            "qure": {**_LAVIS, "max_words": 50},
            "covr": {
                "drop_reference": True,
                "strip": False,
                "capitalise": False,
                **_LAVIS,
                "max_words": 30,
            },
            "cosmo": {**_VAL, "caption_mode": "both_orders", "strip": False, "capitalise": False},
            "cosmo_repo": {
                "drop_reference": True,
                "caption_mode": "both_orders",
                "strip": False,
                "capitalise": False,
            },
            "mgur": {
                **_VAL,
                "caption_mode": "both_orders",
                "strip": False,
                "capitalise": False,
                "symbols": "words",
            },
            "val_repo": {
                **_VAL,
                "caption_mode": "single",
                "strip": False,
                "capitalise": False,
                "symbols": "words",
            },
            "composeae": {
                "gallery": "merged",
                "caption_mode": "category_and_it",
                "strip": False,
                "capitalise": False,
                "lower": True,
            },
        }
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val before test, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        folder = self._picture_folder(root)
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: f"{folder / name}.{ENDINGS}",
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        files = self._caption_files(root)
        pictures = list_pictures(self._picture_folder(root))
        attributes = read_attributes(root / "attributes.json")
        rules = self.caption_rules(self.caption_mode)
        splits: list[Split] = []
        for role in ROLES:
            read = [
                _read_captions(root, file, category, role, self.gallery == "val", rules, attributes)
                for (category, its_role), file in files.items()
                if its_role == role
            ]
            if self.gallery == "merged" and read:
                read = [_merge(read, role)]
            splits += [self._split(captions, rules, attributes, pictures) for captions in read]
        return splits

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        files = pictures_by_name(self._picture_folder(root))
        names = dict.fromkeys(name for split in self.annotations(root) for name in image_ids(split))
        choice = "move the others away or name a folder with --set data.images=FOLDER"
        return ambiguity_notes([name for name in names if name in files], files, choice)

    def protocol_facts(self, root: Path) -> Mapping[str, str]:
        """What is ranked."""
        return {"gallery": f"{self.gallery}: {_GALLERIES[self.gallery]}"}

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"{self._picture_folder(root)}/**/<image>.{ENDINGS}"

    def _picture_folder(self, root: Path) -> Path:
        """The folder of the pictures.

        Raises:
            CIRError: It is not below the data folder; a whole disk would be searched.
        """
        path = PurePath(self.images)
        if path.is_absolute() or ".." in path.parts or "\0" in self.images:
            raise CIRError(
                f"data.images is {short(self.images)}\n"
                "accepted: a folder below the data folder, such as images"
            )
        return Path(root, path)

    def _caption_files(self, root: Path) -> dict[tuple[str, str], Path]:
        files: dict[tuple[str, str], Path] = {}
        for file in sorted(root.glob("captions/cap.*.json")):
            match = _CAPTION_FILE.fullmatch(file.name)
            if match and match[1] != CIRR_VERSION and match[2] in (self.splits or ROLES):
                files[match[1], match[2]] = file
        if not files:
            which = "|".join(self.splits or ROLES)
            names = root / "captions" / f"cap.<category>.<{which}>.json"
            raise nothing_to_read(root, str(names), "fashioniq")
        categories = {category for category, _ in files}
        for category in self.categories:
            if category not in categories:
                raise unknown_name("category", category, categories)
        return {
            key: file
            for key, file in files.items()
            if not self.categories or key[0] in self.categories
        }

    def _split(
        self,
        captions: _CaptionFile,
        rules: Captions,
        attributes: Attributes,
        pictures: Mapping[str, Path],
    ) -> Split:
        queries = attributes.with_positives(captions.queries, captions.gallery)
        names = dict.fromkeys(captions.gallery)
        names.update(dict.fromkeys(query.reference for query in queries))
        return Split(
            name=captions.name,
            role=captions.role,
            queries=queries,
            gallery=captions.gallery,
            paths={name: pictures[name] for name in names if name in pictures},
            drop_reference=self.drop_reference,
            measures=_RECALLS + _ALL_POSITIVES if attributes.of else _RECALLS,
            main=("map@10",) if attributes.of else ("recall@10", "recall@50"),
            captions=rules,
        )


@dataclass(frozen=True)
class _CaptionFile:
    """One caption file's queries, without their further positives, and its gallery."""

    name: str
    role: Role
    queries: tuple[Query, ...]
    gallery: tuple[str, ...]


def _read_captions(
    root: Path,
    file: Path,
    category: str,
    role: Role,
    from_triplets: bool,
    rules: Captions,
    attributes: Attributes,
) -> _CaptionFile:
    name = f"{category}.{role}"
    entries = read_entries(file)
    kinds = read_kinds(root / "meta" / f"kinds.{name}.json", file, len(entries))
    queries: list[Query] = []
    for number, (entry, kind) in enumerate(zip(entries, kinds, strict=True)):
        queries += _queries(entry, f"{name}.{number}", category, role, kind, rules, attributes)
    images = root / "image_splits" / f"split.{name}.json"
    return _CaptionFile(name, role, tuple(queries), _gallery(images, role, queries, from_triplets))


def _queries(
    entry: Entry,
    name: str,
    category: str,
    role: Role,
    kind: str | None,
    rules: Captions,
    attributes: Attributes,
) -> Iterator[Query]:
    reference = entry.text("candidate")
    blind = role == "test" and "target" not in entry.fields
    target = None if blind else entry.text("target")
    captions = entry.texts("captions")
    changed = attributes.changed(kind, reference, target)
    numbered = rules.mode in ("both_orders", "single")
    for order, text in enumerate(rules.texts(captions, category)):
        yield Query(
            id=f"{name}.{order}" if numbered else name,
            reference=reference,
            captions=captions,
            text=text,
            target=target,
            positives=() if target is None else (target,),
            category=category,
            changed=changed,
        )


def _gallery(
    file: Path, role: Role, queries: Sequence[Query], from_triplets: bool
) -> tuple[str, ...]:
    needed = {query.reference for query in queries}
    needed.update(query.target for query in queries if query.target)
    if role != "test" and (from_triplets or (role == "train" and not file.exists())):
        return tuple(sorted(needed))
    images = read_names(file)
    have = frozenset(images)
    if role == "train":
        return images + tuple(sorted(needed - have))
    for query in queries:
        if query.target and query.target not in have:
            raise CIRError(f"{file} lacks image '{query.target}', the target of query {query.id}")
    return images


def _merge(files: Sequence[_CaptionFile], role: Role) -> _CaptionFile:
    gallery = dict.fromkeys(name for one in files for name in one.gallery)
    queries = tuple(query for one in files for query in one.queries)
    return _CaptionFile(f"merged.{role}", role, queries, tuple(gallery))
