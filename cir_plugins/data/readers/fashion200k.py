"""Reads Fashion200k with the queries of TIRG.

Files: ``labels/<...>train<...>.txt`` and ``labels/<...>test<...>.txt`` with lines ``image path``,
detection score and caption between tabs; ``test_queries.txt`` with lines ``reference target``, both
image paths; the pictures at these paths below the data folder or its ``images``.

Source: Han et al., 2017, arXiv 1708.01311 (data); Vo et al., 2019, arXiv 1812.07119 (queries).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from cir_plugins.data.captions import Captions, CaptionSwitches, Symbols
from cir_plugins.data.readers.files import need_folder, nothing_to_read, read_lines, short
from cir_plugins.data.readers.missing import Missing, settle_all
from cir_plugins.data.readers.pictures import PictureFolder
from cir_plugins.data.split import Query, Split
from cir_plugins.errors import CIRError
from cir_plugins.plugins.ranges import Count
from cir_plugins.seeds import mix_seed

Role: TypeAlias = Literal["train", "val"]
ROLES: tuple[Role, ...] = ("train", "val")
_WORDS: Mapping[Role, str] = MappingProxyType({"train": "train", "val": "test"})
_QUERIES = "test_queries.txt"
_MEASURES = ("any_recall@1", "any_recall@10", "any_recall@50")


@dataclass(frozen=True)
class Fashion200k(CaptionSwitches):
    """Reader of the Fashion200k layout; calling it with a folder gives its splits.

    ``val`` is what papers call the test set. Every image with the target's caption is a positive,
    and the papers' Recall@k is ``any_recall@k``. A text is ``replace a with b``: the first word of
    each caption that the other one lacks. Training triplets are drawn as TIRG draws them, but once:
    a caption without one of its words is a parent, and two captions with one parent are a pair.

    Attributes:
        drop_reference: Whether a query's reference leaves its ranking. MGUR removes every image
            with the reference's caption, which this reader does not offer.
        pairs_per_image: Training triplets for each image whose caption has a parent with others.
        seed: Seed of the training triplets.
        splits: The splits to read, or none for all that are there.
        missing: What to do about triplets and gallery images without a picture.
    """

    drop_reference: bool = True
    pairs_per_image: Count = 1
    seed: int = 0
    splits: tuple[Role, ...] = ()
    missing: Missing = "error"
    strip: bool = field(default=False, kw_only=True)
    symbols: Symbols = field(default="words", kw_only=True)

    protocols: ClassVar[Mapping[str, Mapping[str, object]]] = MappingProxyType(
        {"default": {}, "keep_reference": {"drop_reference": False}}
    )

    def __call__(self, root: Path) -> list[Split]:
        """The splits of a data folder, train before val, all pictures in place.

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
        files = {role: _label_files(root, role) for role in self.splits or ROLES}
        if not any(files.values()):
            names = " or ".join(f"*{_WORDS[role]}*.txt" for role in files)
            raise nothing_to_read(root, f"{root / 'labels'}/{names}", "fashion200k")
        rules = self.caption_rules()
        pictures = PictureFolder.below(root, ("images",))
        return [
            self._split(root, role, _read_captions(of_role), rules, pictures)
            for role, of_role in files.items()
            if of_role
        ]

    def looked_for(self, root: Path) -> str:
        """Where pictures are looked for."""
        return f"the paths of the label files in {Path(root)} and {Path(root, 'images')}"

    def _split(
        self,
        root: Path,
        role: Role,
        captions: Mapping[str, str],
        rules: Captions,
        pictures: PictureFolder,
    ) -> Split:
        pairs = (
            _drawn(captions, self.pairs_per_image, self.seed)
            if role == "train"
            else _read_pairs(root / _QUERIES, captions)
        )
        alike = _by_caption(captions)
        return Split(
            name=role,
            role=role,
            queries=tuple(
                _query(number, pair, captions, alike, rules) for number, pair in enumerate(pairs)
            ),
            gallery=tuple(captions),
            paths={name: pictures.files[name] for name in captions if name in pictures.files},
            drop_reference=self.drop_reference,
            measures=_MEASURES,
            main=_MEASURES,
            captions=rules,
        )


def _label_files(root: Path, role: Role) -> list[Path]:
    return sorted(root.glob(f"labels/*{_WORDS[role]}*.txt"))


def _read_captions(files: Sequence[Path]) -> dict[str, str]:
    """Image path -> caption, in the order of the files."""
    captions: dict[str, str] = {}
    for file in files:
        for label, line in read_lines(file):
            fields = line.split("\t")
            if len(fields) != 3 or not fields[0] or not fields[2].split():
                accepted = "an image path, a score and a caption, with tabs between them"
                raise CIRError(f"{file}, {label} is {short(line)}\naccepted: {accepted}")
            name, _, caption = fields
            if captions.setdefault(name, caption.strip()) != caption.strip():
                raise CIRError(f"{file}, {label} has another caption for image '{name}'")
    return captions


def _by_caption(captions: Mapping[str, str]) -> dict[str, list[str]]:
    """Caption -> its images, both in order."""
    images: dict[str, list[str]] = {}
    for name, caption in captions.items():
        images.setdefault(caption, []).append(name)
    return images


def _read_pairs(file: Path, captions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The (reference, target) pairs of the query file."""
    for label, line in read_lines(file):
        images = line.split()
        if len(images) != 2:
            raise CIRError(f"{file}, {label} is {short(line)}\naccepted: two image paths")
        for name in images:
            if name not in captions:
                raise CIRError(f"{file}, {label}: '{name}' is in no label file of its split")
        yield images[0], images[1]


def _drawn(captions: Mapping[str, str], count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Drawn (reference, target) pairs whose captions share a parent, ``count`` for each image."""
    images = _by_caption(captions)
    children: dict[str, list[str]] = {}
    for caption in images:
        for parent in _parents(caption):
            children.setdefault(parent, []).append(caption)
    parents: dict[str, list[str]] = {}
    for parent, of_parent in children.items():
        for caption in of_parent if len(of_parent) > 1 else ():
            parents.setdefault(caption, []).append(parent)
    for number, (name, caption) in enumerate(captions.items()):
        if caption in parents:
            rng = random.Random(mix_seed(seed, number))
            for _ in range(count):
                others = children[rng.choice(parents[caption])]
                other = rng.choice([each for each in others if each != caption])
                yield name, rng.choice(images[other])


def _parents(caption: str) -> tuple[str, ...]:
    """The caption without each of its words, each parent once.

    A word is removed wherever it stands, also within another word, as TIRG does it.
    """
    parents = (caption.replace(word, "").replace("  ", " ").strip() for word in caption.split())
    return tuple(dict.fromkeys(parents))


def _query(
    number: int,
    pair: tuple[str, str],
    captions: Mapping[str, str],
    alike: Mapping[str, Sequence[str]],
    rules: Captions,
) -> Query:
    reference, target = pair
    before, after = captions[reference].split(), captions[target].split()
    text = f"replace {_first_other(before, after)} with {_first_other(after, before)}"
    others = [name for name in alike[captions[target]] if name not in (target, reference)]
    return Query(
        id=str(number),
        reference=reference,
        captions=(text,),
        text=rules.texts((text,))[0],
        target=target,
        positives=(target, *others),
    )


def _first_other(words: Sequence[str], others: Sequence[str]) -> str:
    """The first word that is not among the others, else the last one."""
    return next((word for word in words if word not in others), words[-1])
