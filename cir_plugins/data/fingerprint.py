"""Fingerprints of data: whether two numbers are about the same queries, galleries and images."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError

_THREADS = 4  # hashing and reading wait for one another
_SLICE = 64  # files that a thread hashes at a time
_SMALL = 1 << 20  # bytes of a file that is read at once
_SHORT = 16  # hexadecimal digits of the hash that stands in results
# A file may change twice within one tick of the file system's clock: the hash of one that was
# written just now is computed again.
_SETTLED = 2_000_000_000  # nanoseconds

HashFiles: TypeAlias = Callable[[Sequence[Path]], Sequence[str]]
"""Hashes of the bytes of files, in their order."""


@dataclass(frozen=True)
class SplitFingerprint:
    """Hashes of what a split holds, one for each thing that may change alone.

    Attributes:
        name: Name of the split.
        role: What the split is for.
        queries: Number of queries.
        gallery: Number of gallery images.
        ids: Of the query ids, in order.
        references: Of the references, in order.
        captions: Of the raw captions, in order.
        texts: Of the texts made of the captions, in order.
        targets: Of the targets, in order.
        positives: Of all positives, in order.
        groups: Of the groups and categories, in order.
        triplets: Of the distinct triplets with their positives and groups, in order: the same
            whatever texts are made of them, and however many.
        gallery_ids: Of the gallery's ids, whatever their order.
        gallery_order: Of the gallery's ids, in order.
        images: Of the bytes of every image file, by image id.
    """

    name: str
    role: str
    queries: int
    gallery: int
    ids: str
    references: str
    captions: str
    texts: str
    targets: str
    positives: str
    groups: str
    triplets: str
    gallery_ids: str
    gallery_order: str
    images: str

    @classmethod
    def of(cls, split: Split, hashes: Mapping[str, str]) -> SplitFingerprint:
        """The fingerprint of a split.

        Args:
            split: The split.
            hashes: Hash of the bytes of each of its image files, by image id.
        """
        queries = split.queries
        triplets = (
            (q.reference, q.captions, q.target, q.positives, q.category, q.group) for q in queries
        )
        return cls(
            name=split.name,
            role=split.role,
            queries=len(queries),
            gallery=len(split.gallery),
            ids=_hash(query.id for query in queries),
            references=_hash(query.reference for query in queries),
            captions=_hash(query.captions for query in queries),
            texts=_hash(query.text for query in queries),
            targets=_hash(query.target for query in queries),
            positives=_hash(list(query.positives) for query in queries),
            groups=_hash([query.category, *query.group] for query in queries),
            triplets=_hash(dict.fromkeys(triplets)),
            gallery_ids=_hash(sorted(split.gallery)),
            gallery_order=_hash(split.gallery),
            images=_hash(sorted(hashes.items())),
        )

    @property
    def short(self) -> str:
        """Sixteen hexadecimal digits: equal for equal triplets, gallery and images alone.

        The texts that a protocol makes of the captions do not count.
        """
        order = (self.name, self.triplets, self.gallery_order, self.images)
        return _hash(order)[:_SHORT]


_WORDS: Mapping[str, str] = {
    "ids": "query ids",
    "references": "references",
    "captions": "captions",
    "texts": "texts of the same captions",
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
    def of(
        cls, dataset: str, splits: Sequence[Split], hash_files: HashFiles | None = None
    ) -> DataFingerprint:
        """The fingerprint of splits of a data set; an image of several splits is read once.

        Args:
            dataset: Name of the reader.
            splits: The splits.
            hash_files: Hashes of files; None to read every file that has changed since this
                process hashed it.

        Raises:
            CIRError: If an image file cannot be read.
        """
        paths = sorted({path for split in splits for path in split.paths.values()})
        hashes = dict(zip(paths, (hash_files or content_hashes)(paths), strict=True))
        return cls(
            dataset,
            tuple(
                SplitFingerprint.of(split, {name: hashes[p] for name, p in split.paths.items()})
                for split in splits
            ),
        )

    def of_role(self, role: str) -> DataFingerprint:
        """The fingerprint of the splits of one role alone."""
        splits = tuple(split for split in self.splits if split.role == role)
        return DataFingerprint(self.dataset, splits)

    @property
    def short(self) -> str:
        """Sixteen hexadecimal digits for results and tables: equal for equal data alone.

        The texts that a protocol makes of the captions do not count.
        """
        return _hash([self.dataset, *(split.short for split in self.splits)])[:_SHORT]

    @property
    def document(self) -> dict[str, Any]:
        """What results have of it: the short fingerprint of all splits and of each."""
        splits = {split.name: split.short for split in self.splits}
        return {"fingerprint": self.short, "splits": splits}

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
    if before.captions != after.captions and before.texts != after.texts:
        names.remove(_WORDS["texts"])  # other captions make other texts
    if names:
        phrases.append(f"other {', '.join(names)}")
    return phrases


def _hash(items: Iterable[object]) -> str:
    """Hash of plain values in order; no two different lists are read alike."""
    # Lone surrogates, which annotations may hold, have no UTF-8; JSON escapes them.
    text = json.dumps(list(items), ensure_ascii=True)
    return _digest(text.encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# Path -> size, time of change and hash, of the files that this process has read.
_READ: dict[Path, tuple[int, int, str]] = {}


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """Hash of each file's bytes; one of the same size and time is not read again by this process.

    Raises:
        CIRError: If a file cannot be read.
    """
    slices = [paths[first : first + _SLICE] for first in range(0, len(paths), _SLICE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = pool.map(lambda some: [_content_hash(path) for path in some], slices)
        return [content for some in hashes for content in some]


def _content_hash(path: Path) -> str:
    try:
        stat = path.stat()
        size, changed, content = _READ.get(path, (0, 0, ""))
        if content and (size, changed) == (stat.st_size, stat.st_mtime_ns):
            return content
        with path.open("rb") as file:
            if stat.st_size <= _SMALL:  # as most images are; a buffer for large ones takes longer
                content = _digest(file.read())
            else:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
                content = digest.hexdigest()
    except OSError as error:
        raise CIRError(f"image {path} cannot be read: {error.strerror}") from error
    if time.time_ns() - stat.st_mtime_ns > _SETTLED:
        _READ[path] = stat.st_size, stat.st_mtime_ns, content
    return content
