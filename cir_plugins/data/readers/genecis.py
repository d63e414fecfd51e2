"""Reads the object tasks of GeneCIS.

Files: ``change_object.json`` and ``focus_object.json``; the pictures of COCO val2017 anywhere below
the data folder, named by their number, such as ``val2017/000000121506.jpg``.

Source: Vaze et al., 2023, arXiv 2306.07969.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches
from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    no_training_split,
    nothing_to_read,
    read_entries,
)
from cir_plugins.data.readers.missing import Missing, image_ids, settle_all
from cir_plugins.data.readers.pictures import ENDINGS, ambiguity_notes, pictures_by_number
from cir_plugins.data.split import Query, Split

Task: TypeAlias = Literal["change_object", "focus_object"]
TASKS: tuple[Task, ...] = ("focus_object", "change_object")
_OTHERS = ("focus_attribute.json", "change_attribute.json")
_MEASURES = ("subset_recall@1", "subset_recall@2", "subset_recall@3")


@dataclass(frozen=True)
class GeneCIS(CaptionSwitches):
    """Reader of the GeneCIS layout; calling it with a folder gives one split per task.

    Every query has a gallery of its own, 15 images with the target: it is the query's group, so
    that ``subset_recall@k`` is the paper's Recall@k. The gallery of a split holds the images of all
    of them. GeneCIS has no training split. The attribute tasks crop images and are not read.

    Attributes:
        tasks: The tasks to read, or none for all that are there.
        splits: Only ``val`` can be read.
        missing: What to do about queries and gallery images without a picture.
    """

    tasks: tuple[Task, ...] = ()
    splits: tuple[Literal["val"], ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType({"default": {}})

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: f"{Path(root) / 'val2017' / name.zfill(12)}.jpg",
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there."""
        root = Path(root)
        need_folder(root)
        if "train" in self.splits:
            raise no_training_split("genecis")
        files = {task: root / f"{task}.json" for task in self.tasks or TASKS}
        if not any(file.exists() for file in files.values()):
            raise nothing_to_read(root, " or ".join(map(str, files.values())), "genecis")
        rules = self.caption_rules()
        pictures = pictures_by_number(root)
        return [
            _split(task, tuple(_queries(file, rules)), rules, pictures)
            for task, file in files.items()
            if file.exists()
        ]

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        root = Path(root)
        splits = self.annotations(root)
        files = pictures_by_number(root)
        names = dict.fromkeys(name for split in splits for name in image_ids(split))
        notes = ambiguity_notes([n for n in names if n in files], files, "move the others away")
        for split in splits:
            sizes = sorted({len(query.group) for query in split.queries})
            if len(sizes) > 1:
                notes.append(f"{split.name}: queries rank {sizes[0]} to {sizes[-1]} images")
        why = "its task crops images of Visual Genome, which no reader does"
        return notes + [
            f"{root / name} is not read: {why}" for name in _OTHERS if (root / name).exists()
        ]

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"{Path(root)}/**/<12 digits>.{ENDINGS}"


def _split(
    task: Task, queries: tuple[Query, ...], rules: Captions, pictures: Mapping[str, list[Path]]
) -> Split:
    ranked = {name for query in queries for name in query.group}
    needed = ranked | {query.reference for query in queries}
    return Split(
        name=task,
        role="val",
        queries=queries,
        gallery=tuple(sorted(ranked, key=int)),
        paths={name: pictures[name][0] for name in sorted(needed, key=int) if name in pictures},
        drop_reference=True,
        measures=_MEASURES,
        main=("subset_recall@1",),
        captions=rules,
    )


def _queries(file: Path, rules: Captions) -> Iterator[Query]:
    for number, entry in enumerate(read_entries(file)):
        reference, target = (_image(entry.child(key)) for key in ("reference", "target"))
        others = [_image(other) for other in entry.children("gallery")]
        if reference in (target, *others):
            raise entry.wrong("gallery", "images without the reference, as target neither")
        condition = entry.text("condition")
        yield Query(
            id=str(number),
            reference=reference,
            captions=(condition,),
            text=rules.texts((condition,))[0],
            target=target,
            positives=(target,),
            # The official change_object.json has one query with its target in the gallery too.
            group=tuple(dict.fromkeys((target, *others))),
        )


def _image(entry: Entry) -> str:
    return str(entry.number("val_image_id"))
