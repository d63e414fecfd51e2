"""Reads CIRCO and every data set laid out like it.

Files: ``annotations/<val|test>.json``; pictures named by their 12-digit number in ``images/`` or
``COCO2017_unlabeled/unlabeled2017/``; the gallery from
``COCO2017_unlabeled/annotations/image_info_unlabeled2017.json``, else from the pictures there are.

Source: Baldrati et al., 2023, arXiv 2303.15247.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches
from cir_plugins.data.readers.files import (
    Entry,
    need_folder,
    no_training_split,
    nothing_to_read,
    read_entries,
    read_table,
    unique,
)
from cir_plugins.data.readers.missing import Missing, image_ids, settle_all
from cir_plugins.data.readers.pictures import ENDINGS, ambiguity_notes, walk_pictures
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError

Name: TypeAlias = Literal["val", "test"]
NAMES: tuple[Name, ...] = ("val", "test")
_INFO = Path("COCO2017_unlabeled", "annotations", "image_info_unlabeled2017.json")
_FOLDERS = (Path("images"), Path("COCO2017_unlabeled", "unlabeled2017"))
_MAPS = ("map@5", "map@10", "map@25", "map@50")
_RECALLS = ("recall@5", "recall@10", "recall@25", "recall@50")


@dataclass(frozen=True)
class CIRCO(CaptionSwitches):
    """Reader of the CIRCO layout; calling it with a folder gives its splits.

    Image ids are the COCO numbers as strings, without leading zeros; ``changed`` holds the
    semantic aspects. CIRCO has no training split.

    Attributes:
        drop_reference: Whether a query's reference leaves its ranking; the official script keeps
            it.
        splits: The splits to read, or none for all that are there.
        missing: What to do about queries and gallery images without a picture.
    """

    drop_reference: bool = False
    splits: tuple[Name, ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {"default": {}, "drop_reference": {"drop_reference": True}}
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, val before test, all pictures in place.

        Raises:
            CIRError: The folder or a file in it is not as it should be, or a picture is missing.
        """
        folders = [Path(root, folder) for folder in _FOLDERS]
        folder = next((folder for folder in folders if folder.is_dir()), folders[-1])
        return settle_all(
            self.annotations(root),
            self.missing,
            lambda name: f"{folder / name.zfill(12)}.jpg",
            self.looked_for(root),
        )

    def annotations(self, root: Path) -> list[Split]:
        """The same splits, whole, with ``paths`` of no more than the pictures that are there.

        With neither pictures nor their list the gallery is every image of the annotations.
        """
        root = Path(root)
        need_folder(root)
        if "train" in self.splits:
            raise no_training_split("circo")
        files = {name: root / "annotations" / f"{name}.json" for name in self.splits or NAMES}
        present: dict[Name, Path] = {name: file for name, file in files.items() if file.exists()}
        if not present:
            raise nothing_to_read(root, _either(files.values()), "circo")
        rules = self.caption_rules()
        queries = {name: tuple(_queries(file, name, rules)) for name, file in present.items()}
        pictures = _pictures(root)
        images = {image for of in queries.values() for query in of for image in _images(query)}
        gallery = _gallery(root, pictures) or tuple(sorted(images, key=int))
        if (root / _INFO).exists():
            _check_gallery(root / _INFO, queries, gallery)
        return [
            self._split(name, of_split, gallery, pictures, rules)
            for name, of_split in queries.items()
        ]

    def notes(self, root: Path) -> list[str]:
        """Facts about the folder that are no errors."""
        files = _files(Path(root))
        names = dict.fromkeys(name for split in self.annotations(root) for name in image_ids(split))
        present = [name for name in names if name in files]
        notes = ambiguity_notes(present, files, "move the others away")
        if (Path(root) / _INFO).exists():
            return notes
        source = self._gallery_source(Path(root))
        return [f"{Path(root) / _INFO} is not there: the gallery is {source}", *notes]

    def protocol_facts(self, root: Path) -> Mapping[str, str]:
        """What is ranked, and that texts are the captions alone."""
        return {"gallery": self._gallery_source(Path(root)), "shared_concept": "without"}

    def gallery_is_official(self, root: Path) -> bool:
        """Whether the list of all images is there, rather than some pictures."""
        return (Path(root) / _INFO).exists()

    def _gallery_source(self, root: Path) -> str:
        if (root / _INFO).exists():
            return "the images of image_info_unlabeled2017.json"
        return "the pictures there are" if _files(root) else "every image of the annotations"

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return _either(Path(root, folder, f"<12 digits>.{ENDINGS}") for folder in _FOLDERS[::-1])

    def _split(
        self,
        name: Name,
        queries: tuple[Query, ...],
        gallery: tuple[str, ...],
        pictures: Mapping[str, Path],
        rules: Captions,
    ) -> Split:
        needed = dict.fromkeys(gallery)
        needed.update(dict.fromkeys(image for query in queries for image in _images(query)))
        return Split(
            name=name,
            role=name,
            queries=queries,
            gallery=gallery,
            paths={image: pictures[image] for image in needed if image in pictures},
            drop_reference=self.drop_reference,
            measures=_MAPS + _RECALLS,
            main=("map@5",),
            captions=rules,
        )


def _either(files: Iterable[Path]) -> str:
    return " or ".join(str(file) for file in files)


def _images(query: Query) -> tuple[str, ...]:
    return (query.reference, *query.positives)


def _files(root: Path) -> dict[str, list[Path]]:
    """Image id -> its files; a file whose name is no number is none of CIRCO's."""
    files: dict[str, list[Path]] = {}
    for folder in _FOLDERS:
        for path in walk_pictures(root / folder):
            if path.stem.isascii() and path.stem.isdigit():
                files.setdefault(str(int(path.stem)), []).append(path)
    return dict(sorted(files.items(), key=lambda item: int(item[0])))


def _pictures(root: Path) -> dict[str, Path]:
    """Image id -> file."""
    return {name: paths[0] for name, paths in _files(root).items()}


def _gallery(root: Path, pictures: Mapping[str, Path]) -> tuple[str, ...]:
    """Ids of the official list where it is there, else of the pictures."""
    file = root / _INFO
    if not file.exists():
        return tuple(pictures)
    objects = read_table(file).get("images")
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise CIRError(f"{file} has no list of objects 'images'")
    entries = [Entry(file, f"image {number}", item) for number, item in enumerate(objects)]
    ids: list[str] = []
    for entry in entries:
        number, stem = entry.number("id"), PurePosixPath(entry.text("file_name")).stem
        digits = stem.isascii() and stem.isdigit()
        if not digits or stem.lstrip("0") != str(number).lstrip("0"):
            raise entry.wrong("file_name", f"the number {number:012d} and an ending")
        ids.append(str(number))
    unique(zip(entries, ids, strict=True), "id")
    return tuple(ids)


def _check_gallery(
    file: Path, queries: Mapping[Name, tuple[Query, ...]], gallery: tuple[str, ...]
) -> None:
    ids = frozenset(gallery)
    for name, of_split in queries.items():
        for query in of_split:
            for image in query.positives:
                if image not in ids:
                    raise CIRError(
                        f"{file} lacks image {image}, a positive of {name} query {query.id}"
                    )


def _queries(file: Path, name: Name, rules: Captions) -> Iterator[Query]:
    entries = read_entries(file)
    unique(((entry, str(entry.number("id"))) for entry in entries), "id")
    for entry in entries:
        caption = entry.text("relative_caption")
        blind = name == "test" and "target_img_id" not in entry.fields
        positives = () if blind else _positives(entry)
        aspects = entry.texts("semantic_aspects") if entry.fields.get("semantic_aspects") else ()
        yield Query(
            id=str(entry.number("id")),
            reference=str(entry.number("reference_img_id")),
            captions=(caption,),
            text=rules.texts((caption,))[0],
            target=positives[0] if positives else None,
            positives=positives,
            changed=aspects,
        )


def _positives(entry: Entry) -> tuple[str, ...]:
    target = entry.number("target_img_id")
    others = entry.numbers("gt_img_ids")
    if target not in others:
        raise entry.wrong("gt_img_ids", f"a list that holds the target, {target}")
    return (str(target), *(str(number) for number in others if number != target))
