"""Reads the relative captions of the Shoes data set.

Files: ``relative_captions_shoes.json`` with the triplets, ``train_im_names.txt`` and
``eval_im_names.txt`` with one file name a line; the pictures anywhere below the data folder, such
as ``womens_boots/0/img_womens_boots_24.jpg``.

Source: Guo et al., 2018, arXiv 1805.00145 (captions); Berg et al., 2010 (pictures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    read_lines,
)
from cir_plugins.data.readers.missing import Missing, image_ids, settle_all
from cir_plugins.data.readers.pictures import (
    ENDINGS,
    ambiguity_notes,
    list_pictures,
    pictures_by_name,
)
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

Role: TypeAlias = Literal["train", "val"]
ROLES: tuple[Role, ...] = ("train", "val")
_TRIPLETS = "relative_captions_shoes.json"
_LISTS: Mapping[Role, str] = MappingProxyType(
    {"train": "train_im_names.txt", "val": "eval_im_names.txt"}
)
_RECALLS = ("recall@1", "recall@10", "recall@50")


@dataclass(frozen=True)
class Shoes(CaptionSwitches):
    """Reader of the Shoes layout; calling it with a folder gives its splits.

    ``val`` is what papers call the test set: 1,761 triplets with an image of the evaluation list
    and none of the training list. 29 of them name an image of neither list, which joins the
    gallery: 4,621 images become 4,642.

    Attributes:
        drop_reference: Whether a query's reference leaves its ranking, as VAL and MGUR have it.
        listed_only: Leave out triplets with an image of neither list: 1,732 are left.
        splits: The splits to read, or none for all.
        missing: What to do about triplets and gallery images without a picture.
    """

    drop_reference: bool = True
    listed_only: bool = False
    splits: tuple[Role, ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {
            "default": {},
            "mgur": {},
            "val_repo": {"symbols": "words"},
            "listed_only": {"listed_only": True},
            "keep_reference": {"drop_reference": False},
        }
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: f"{Path(root) / name}.jpg",
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        file = root / _TRIPLETS
        if not file.exists():
            raise nothing_to_read(root, str(file), "shoes")
        lists = {role: _read_list(root / name) for role, name in _LISTS.items()}
        both = frozenset(lists["train"]) & frozenset(lists["val"])
        if both:
            raise CIRError(f"{root / _LISTS['val']} shares image '{min(both)}' with the other list")
        rules = self.caption_rules()
        queries = _queries(file, lists, self.listed_only, rules)
        pictures = list_pictures(root)
        return [
            self._split(role, queries[role], lists[role], rules, pictures)
            for role in ROLES
            if role in (self.splits or ROLES)
        ]

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        splits = self.annotations(root)
        files = pictures_by_name(Path(root))
        names = dict.fromkeys(name for split in splits for name in image_ids(split))
        used = sum(len(split.queries) for split in splits)
        total = len(read_entries(Path(root) / _TRIPLETS))
        notes = ambiguity_notes([n for n in names if n in files], files, "move the others away")
        if used < total:
            why = "their images are in no list or in two different ones, or the split is not read"
            notes.append(f"{total - used:,} of {total:,} triplets are left out: {why}")
        return notes

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"{Path(root)}/**/<image>.{ENDINGS}"

    def _split(
        self,
        role: Role,
        queries: Sequence[Query],
        names: Sequence[str],
        rules: Captions,
        pictures: Mapping[str, Path],
    ) -> Split:
        gallery = dict.fromkeys(names)
        for query in queries:
            gallery.update(dict.fromkeys((query.reference, *query.positives)))
        return Split(
            name=role,
            role=role,
            queries=tuple(queries),
            gallery=tuple(gallery),
            paths={name: pictures[name] for name in gallery if name in pictures},
            drop_reference=self.drop_reference,
            measures=_RECALLS,
            main=_RECALLS,
            captions=rules,
        )


def _read_list(file: Path) -> tuple[str, ...]:
    """Image ids of a list of file names, without their ending."""
    names: dict[str, str] = {}
    for label, line in read_lines(file):
        name = PurePosixPath(line).stem
        if name in names:
            raise CIRError(f"{file}, {label}: '{name}' is there a second time, as in {names[name]}")
        names[name] = label
    return tuple(names)


def _queries(
    file: Path, lists: Mapping[Role, Sequence[str]], listed_only: bool, rules: Captions
) -> dict[Role, list[Query]]:
    queries: dict[Role, list[Query]] = {role: [] for role in ROLES}
    role_of: dict[str, Role] = {name: role for role in ROLES for name in lists[role]}
    for number, entry in enumerate(read_entries(file)):
        query = _query(entry, str(number), rules)
        images = (query.reference, query.target or "")
        roles = {role_of[name] for name in images if name in role_of}
        unlisted = any(name not in role_of for name in images)
        # A training triplet needs both images in the list, as papers count 8,990 of them.
        if len(roles) != 1 or (unlisted and (listed_only or roles == {"train"})):
            continue
        queries[roles.pop()].append(query)
    return queries


def _query(entry: Entry, name: str, rules: Captions) -> Query:
    reference, target = (
        PurePosixPath(entry.text(key)).stem for key in ("ReferenceImageName", "ImageName")
    )
    caption = entry.text("RelativeCaption")
    return Query(
        id=name,
        reference=reference,
        captions=(caption,),
        text=rules.texts((caption,))[0],
        target=target,
        positives=(target,),
    )
