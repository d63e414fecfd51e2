"""Reads HP-FashionIQ: two sets of retrieved images for each FashionIQ query, and the preferred one.

File: ``hpfiq.json``, users with question sets of parallel lists. Pictures lie anywhere below
FashionIQ's data folder and are found by their name.

Source: Kwak et al., 2025, arXiv 2507.12416; repository jackwaky/QuRe, folder HP_FashionIQ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from cir_plugins.data.captions import Captions
from cir_plugins.data.readers.files import Entry, need_folder, read_table
from cir_plugins.data.readers.missing import Missing
from cir_plugins.data.readers.pictures import ENDINGS, list_pictures
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

_LISTS = ("ref_img_paths", "targ_img_paths", "sentences")
_SETS = ("retrieved_set1", "retrieved_set2")


@dataclass(frozen=True)
class Preferences:
    """The items of HP-FashionIQ.

    Attributes:
        split: The queries, one per item, and all images of their sets as the gallery.
        sets: The image ids of the first and of the second set of each item.
        preferred: Which set a person preferred, 1 or 2.
        left_out: Items without all of their pictures.
    """

    split: Split
    sets: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    preferred: tuple[Literal[1, 2], ...]
    left_out: int = 0


def read_preferences(
    file: Path, root: Path | None, rules: Captions, missing: Missing = "error"
) -> Preferences:
    """The items of a file, in its order.

    Args:
        file: The annotations.
        root: FashionIQ's data folder; None for the annotations alone.
        rules: How a text becomes a query. A sentence is one caption: only what is done to the
            whole text counts (case, symbols, length, prefix).
        missing: What to do about items without all of their pictures.

    Raises:
        CIRError: The file is not as it should be, or a picture is missing.
    """
    items = list(_items(file, rules))
    if root is None:
        return _preferences(items, {}, 0)
    need_folder(root)
    pictures = list_pictures(root)
    whole = [item for item in items if all(name in pictures for name in item.images)]
    if len(whole) < len(items) and (missing == "error" or not whole):
        raise _missing(items, pictures, root)
    return _preferences(whole, pictures, len(items) - len(whole))


@dataclass(frozen=True)
class _Item:
    query: Query
    sets: tuple[tuple[str, ...], tuple[str, ...]]
    preferred: Literal[1, 2]

    @property
    def images(self) -> tuple[str, ...]:
        """The images that are needed: the reference and both sets."""
        return (self.query.reference, *self.sets[0], *self.sets[1])


def _items(file: Path, rules: Captions) -> Iterator[_Item]:
    for user, questions in read_table(file).items():
        for name, entry in _children(file, user, questions):
            columns = [entry.texts(key) for key in _LISTS]
            answers = entry.texts("preferred set")
            pairs = [entry.children(key) for key in _SETS]
            if len({len(column) for column in (*columns, answers, *pairs)}) != 1:
                raise CIRError(f"{file}, {entry.label}: its lists have different lengths")
            for number, (reference, target, sentence) in enumerate(zip(*columns, strict=True)):
                sets = _images(pairs[0][number]), _images(pairs[1][number])
                answer = answers[number]
                if answer not in ("1", "2") or len(sets[0]) != len(sets[1]):
                    raise CIRError(
                        f"{file}, {entry.label}, item {number}: accepted: two sets of one size and "
                        "'1' or '2' as 'preferred set'"
                    )
                query = Query(
                    id=f"{user}.{name}.{number}",
                    reference=_name(reference),
                    captions=(sentence,),
                    text=rules.texts((sentence,))[0],
                    target=_name(target),
                )
                yield _Item(query, sets, 1 if answer == "1" else 2)


def _children(file: Path, user: str, questions: object) -> Iterator[tuple[str, Entry]]:
    entry = Entry(file, f"'{user}'", questions if isinstance(questions, dict) else {})
    if not entry.fields:
        raise CIRError(f"{file}: '{user}' has no question sets\naccepted: an object of objects")
    for name in entry.fields:
        yield name, entry.child(name)


def _images(entry: Entry) -> tuple[str, ...]:
    return tuple(_name(path) for path in entry.texts("img_path"))


def _name(path: str) -> str:
    return PurePosixPath(path).stem


def _preferences(items: list[_Item], pictures: Mapping[str, Path], left_out: int) -> Preferences:
    gallery = dict.fromkeys(name for item in items for one in item.sets for name in one)
    needed = gallery | dict.fromkeys(item.query.reference for item in items)
    split = Split(
        name="hp_fashioniq",
        role="val",
        queries=tuple(item.query for item in items),
        gallery=tuple(gallery),
        paths={name: pictures[name] for name in needed if name in pictures},
    )
    sets, preferred = (item.sets for item in items), (item.preferred for item in items)
    return Preferences(split, tuple(sets), tuple(preferred), left_out)


def _missing(items: list[_Item], pictures: Mapping[str, Path], root: Path) -> CIRError:
    names = dict.fromkeys(name for item in items for name in item.images if name not in pictures)
    lost = sum(any(name in names for name in item.images) for item in items)
    return CIRError(
        f"{len(names):,} images are missing, such as {next(iter(names))}, which {lost:,} of "
        f"{len(items):,} items need\nlooked for: {root}/**/<image>.{ENDINGS}\n"
        "accepted: FashionIQ's data folder, or --missing drop to leave such items out"
    )
