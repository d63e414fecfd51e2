"""Fingerprints of data: whether two numbers are about the same queries, galleries and images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError

_THREADS = 4  # hashing and reading wait for one another
_SHORT = 16  # hexadecimal digits of the hash that stands in results


@dataclass(frozen=True)
class SplitFingerprint:
    """Hashes of what a split holds, one for each thing that may change alone.

    Attributes:
        name: Name of the split.
        queries: Number of queries.
        gallery: Number of gallery images.
        ids: Of the query ids, in order.
        references: Of the references, in order.
        captions: Of the raw captions and the texts made of them, in order.
        targets: Of the targets, in order.
        positives: Of all positives, in order.
        groups: Of the groups and categories, in order.
        gallery_ids: Of the gallery's ids, whatever their order.
        gallery_order: Of the gallery's ids, in order.
        images: Of the bytes of every image file, by image id.
    """

    name: str
    queries: int
    gallery: int
    ids: str
    references: str
    captions: str
    targets: str
    positives: str
    groups: str
    gallery_ids: str
    gallery_order: str
    images: str

    @classmethod
    def of(cls, split: Split) -> SplitFingerprint:
        """The fingerprint of a split; every image file is read once.

        Raises:
            CIRError: If an image file cannot be read.
        """
        queries = split.queries
        return cls(
            name=split.name,
            queries=len(queries),
            gallery=len(split.gallery),
            ids=_hash(query.id for query in queries),
            references=_hash(query.reference for query in queries),
            captions=_hash([*query.captions, query.text] for query in queries),
            targets=_hash(query.target for query in queries),
            positives=_hash(list(query.positives) for query in queries),
            groups=_hash([query.category, *query.group] for query in queries),
            gallery_ids=_hash(sorted(split.gallery)),
            gallery_order=_hash(split.gallery),
            images=_hash_images(split.paths),
        )


_WORDS: Mapping[str, str] = {
    "ids": "query ids",
    "references": "references",
    "captions": "captions",
    "targets": "targets",
    "positives": "positives",
    "groups": "groups or categories",
    "images": "contents of the images",
}


@dataclass(frozen=True)
class DataFingerprint:
    """The fingerprint of a run's or a result's data.

    Attributes:
        dataset: Name of the reader.
        splits: One fingerprint for each split, in order.
    """

    dataset: str
    splits: tuple[SplitFingerprint, ...]

    @classmethod
    def of(cls, dataset: str, splits: Sequence[Split]) -> DataFingerprint:
        """The fingerprint of splits of a data set.

        Raises:
            CIRError: If an image file cannot be read.
        """
        return cls(dataset, tuple(SplitFingerprint.of(split) for split in splits))

    @property
    def short(self) -> str:
        """Sixteen hexadecimal digits for results and tables: equal for equal data alone."""
        return _hash([json.dumps(asdict(self), sort_keys=True)])[:_SHORT]

    def as_json(self) -> dict[str, Any]:
        """The fingerprint as plain values, for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: object, where: str) -> DataFingerprint:
        """The fingerprint that ``as_json`` wrote.

        Args:
            content: Parsed JSON.
            where: The file, for the message.

        Raises:
            CIRError: If it is no fingerprint.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise CIRError(
                f"{where} holds no fingerprint of data: {key or 'it'} is damaged ({first['msg']})"
            ) from error

    def changes(self, later: DataFingerprint) -> list[str]:
        """What is different in later data, one phrase for each difference; [] for the same data."""
        if self.dataset != later.dataset:
            return [f"data set '{later.dataset}' instead of '{self.dataset}'"]
        before = {split.name: split for split in self.splits}
        after = {split.name: split for split in later.splits}
        changes = [f"split '{name}' is gone" for name in before if name not in after]
        changes += [f"split '{name}' is new" for name in after if name not in before]
        for name, split in before.items():
            if name in after:
                phrases = _differences(split, after[name])
                changes += [f"split '{name}': {phrase}" for phrase in phrases]
        return changes


def _differences(before: SplitFingerprint, after: SplitFingerprint) -> list[str]:
    phrases = [
        f"{new} {name} instead of {old}"
        for name, old, new in (
            ("queries", before.queries, after.queries),
            ("gallery images", before.gallery, after.gallery),
        )
        if old != new
    ]
    if before.gallery_ids != after.gallery_ids:
        phrases.append("other gallery images")
    elif before.gallery_order != after.gallery_order:
        phrases.append("another order of the gallery")
    names = [
        words for name, words in _WORDS.items() if getattr(before, name) != getattr(after, name)
    ]
    if names:
        phrases.append(f"other {', '.join(names)}")
    return phrases


def _hash(items: Iterable[object]) -> str:
    """Hash of plain values in order; no two different lists are read alike."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        # Lone surrogates, which annotations may hold, have no UTF-8; JSON escapes them.
        digest.update(json.dumps(item, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _hash_images(paths: Mapping[str, Path]) -> str:
    names = sorted(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = pool.map(_hash_file, [paths[name] for name in names])
        return _hash([name, content] for name, content in zip(names, hashes, strict=True))


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise CIRError(f"image {path} cannot be read: {error.strerror}") from error
