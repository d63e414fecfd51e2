"""Completeness of a data folder: counts, missing and broken pictures, and lost queries."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from cir_plugins.data.bounds import bounds_in_words
from cir_plugins.data.identical import positives_across
from cir_plugins.data.images import open_image
from cir_plugins.data.percent import percent
from cir_plugins.data.readers.missing import absence
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.plugins.declarations import ANNOTATIONS, LOOKED_FOR, NOTES
from cir_plugins.workers import follow_parent

_SHOWN = 10
# Starting processes costs more than decoding this many pictures in this one.
_WORTH_WORKERS = 400


@dataclass(frozen=True)
class SplitCheck:
    """Counts of one split, and its images that cannot be used.

    Attributes:
        name: Name of the split.
        role: ``train``, ``val`` or ``test``.
        queries: Queries, one per triplet, or two where the protocol has two texts of each.
        gallery: Images that are ranked.
        references: Distinct reference images.
        missing_images: Distinct images without a file, of gallery and queries.
        broken: Image id -> why its file cannot be used.
        lost_references: Queries whose reference is missing or broken.
        lost_targets: Other queries whose target is missing or broken.
        unreachable: Queries whose target is the reference that leaves their ranking.
        own_targets: Queries whose target is their reference, which stays in their ranking.
        blind: Queries without a target.
        positives_across: Positives that are known only from triplets with the same reference and
            captions.
        missing_gallery: Images that are ranked, without a usable file.
    """

    name: str
    role: str
    queries: int
    gallery: int
    references: int
    missing_images: tuple[str, ...]
    broken: Mapping[str, str]
    lost_references: int
    lost_targets: int
    unreachable: int = 0
    own_targets: int = 0
    blind: int = 0
    positives_across: int = 0
    missing_gallery: int = 0

    @property
    def missing(self) -> int:
        """Number of images without a file."""
        return len(self.missing_images)

    @property
    def lost(self) -> int:
        """Number of queries without a usable reference or target."""
        return self.lost_references + self.lost_targets


@dataclass(frozen=True)
class CheckReport:
    """Result of checking a data folder.

    Attributes:
        root: The folder.
        splits: One entry per split; empty when the annotations could not be read.
        decoded: Whether every picture was opened.
        errors: One message per thing that is wrong.
        notes: Things worth knowing that are not wrong.
    """

    root: Path
    splits: tuple[SplitCheck, ...] = ()
    decoded: bool = True
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors

    def queries(self) -> dict[str, int]:
        """Queries of all splits of a role, by role."""
        totals: dict[str, int] = {}
        for split in self.splits:
            totals[split.role] = totals.get(split.role, 0) + split.queries
        return totals

    def lost(self) -> dict[str, int]:
        """Lost queries of all splits of a role, by role."""
        totals: dict[str, int] = {}
        for split in self.splits:
            totals[split.role] = totals.get(split.role, 0) + split.lost
        return totals

    def unusable(self) -> dict[str, str]:
        """Every image that cannot be used, by id: ``missing``, or why its file is broken."""
        images: dict[str, str] = {}
        for split in self.splits:
            images |= dict.fromkeys(split.missing_images, "missing") | dict(split.broken)
        return dict(sorted(images.items()))


def check(
    reader: Callable[[Path], list[Split]],
    root: Path,
    *,
    decode: bool = True,
    workers: int | None = None,
) -> CheckReport:
    """A report on a data folder; nothing that is wrong with the data raises.

    A training picture that no triplet needs may be missing: that is a note, not an error.

    Args:
        reader: A reader; its ``annotations``, ``notes`` and ``looked_for`` are used where it has
            them.
        root: Data folder.
        decode: Open every picture, with a progress bar on stderr.
        workers: Processes that open pictures; None for one per core, 8 at most.
    """
    root = Path(root)
    annotations: Callable[[Path], list[Split]] = ANNOTATIONS.of(reader) or reader
    notes_of = NOTES.of(reader)
    looked_for = LOOKED_FOR.of(reader)
    try:
        splits = annotations(root)
        notes = notes_of(root) if notes_of else []
        paths = {path for split in splits for path in split.paths.values()}
        reasons = _broken(sorted(paths), workers) if decode else {}
    except CIRError as error:
        return CheckReport(root, decoded=False, errors=[str(error)])
    checks = tuple(_check_split(split, reasons) for split in splits)
    notes += [f"{split.name}: {_cost(split)}" for split in checks if _harmless(split)]
    notes += [f"{split.name}: {_bounds(split)}" for split in checks if _is_partial(split)]
    notes += [f"{split.name}: {_unreachable(split)}" for split in checks if split.unreachable]
    notes += [f"{split.name}: {_own_targets(split)}" for split in checks if split.own_targets]
    notes += [f"{split.name}: {_blind(split)}" for split in checks if _is_news(split)]
    notes += [f"{split.name}: {_across(split)}" for split in checks if split.positives_across]
    if paths or not checks:
        return CheckReport(root, checks, decode, _errors(root, checks), notes)
    return CheckReport(
        root,
        checks,
        decode,
        [_no_picture(root, checks, looked_for(root) if looked_for else "")],
        notes,
    )


def _check_split(split: Split, reasons: Mapping[Path, str]) -> SplitCheck:
    usable = {name: path for name, path in split.paths.items() if path not in reasons}
    lack = absence(split, usable)
    own_targets = sum(query.target == query.reference for query in split.queries)
    return SplitCheck(
        name=split.name,
        role=split.role,
        queries=len(split.queries),
        gallery=len(split.gallery),
        references=len({query.reference for query in split.queries}),
        missing_images=tuple(name for name in lack.images if name not in split.paths),
        broken={n: reasons[path] for n, path in split.paths.items() if path in reasons},
        lost_references=lack.references,
        lost_targets=lack.targets,
        unreachable=own_targets if split.drop_reference else 0,
        own_targets=0 if split.drop_reference else own_targets,
        blind=sum(query.target is None for query in split.queries),
        positives_across=positives_across(split.queries),
        missing_gallery=sum(name not in usable for name in split.gallery),
    )


def _harmless(split: SplitCheck) -> bool:
    """Whether all that a split lacks is training pictures that no triplet needs."""
    return split.missing > 0 and split.role == "train" and not split.lost and not split.broken


def _errors(root: Path, checks: Sequence[SplitCheck]) -> list[str]:
    if not checks:
        return [f"no split was found in {root}"]
    errors: list[str] = []
    for split in checks:
        if (split.missing or split.broken) and not _harmless(split):
            errors.append(f"{split.name}: {_cost(split)}")
            if split.missing:
                errors.append(f"{split.name}: missing: {_first(split.missing_images)}")
        errors += list(split.broken.values())[:_SHOWN]
        if len(split.broken) > _SHOWN:
            errors.append(f"{split.name}: {len(split.broken) - _SHOWN:,} more images are broken")
    return errors


def _first(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def _no_picture(root: Path, checks: Sequence[SplitCheck], looked_for: str) -> str:
    lost, queries = sum(split.lost for split in checks), sum(split.queries for split in checks)
    tried = f"\nlooked for: {looked_for}" if looked_for else ""
    return f"not one picture was found in {root}: {share(lost, queries)} are lost{tried}"


def _unreachable(split: SplitCheck) -> str:
    return (
        f"queries with their reference as target: {split.unreachable:,}; the protocol removes it, "
        "so that they are never hit"
    )


def _own_targets(split: SplitCheck) -> str:
    return (
        f"queries with their reference as target: {split.own_targets:,}; the protocol keeps it in "
        "the ranking, so that no change of it is asked for"
    )


def _is_news(split: SplitCheck) -> bool:
    """Whether a split has queries without a target, and is no blind test split."""
    return split.blind > 0 and (split.role != "test" or split.blind < split.queries)


def _blind(split: SplitCheck) -> str:
    if split.blind == split.queries:
        return f"blind: none of {split.queries:,} queries has a target; only a submission is left"
    return f"queries without a target: {share(split.blind, split.queries)}; no measure counts them"


def _across(split: SplitCheck) -> str:
    use = (
        "training takes none of them as a negative (train.known_positives=all)"
        if split.role == "train"
        else "no measure counts them"
    )
    return (
        f"positives known only across triplets, of the same reference and captions: "
        f"{split.positives_across:,}; {use}"
    )


def _cost(split: SplitCheck) -> str:
    lack = f"{split.missing:,} images are missing and {len(split.broken):,} broken"
    whose = f"{split.lost_references:,} lack the reference, {split.lost_targets:,} only the target"
    return f"{lack}, which costs {share(split.lost, split.queries)}: {whose}"


def _is_partial(split: SplitCheck) -> bool:
    """Whether a split can be evaluated without some of its queries or gallery images."""
    return split.role != "train" and (0 < split.lost < split.queries or split.missing_gallery > 0)


def _bounds(split: SplitCheck) -> str:
    return bounds_in_words(split.queries, split.lost, split.missing_gallery)


def _broken(paths: Sequence[Path], workers: int | None) -> dict[Path, str]:
    """Why each picture that cannot be opened cannot."""
    count = min(os.cpu_count() or 1, 8) if workers is None else workers
    if count <= 1 or len(paths) < _WORTH_WORKERS:
        here = map(_reason, paths)
        return _collect(paths, tqdm(here, "opening pictures", len(paths), disable=not paths))
    # Spawned, as forking a process that has started threads can hang it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, follow_parent) as pool:
        try:
            results = pool.map(_reason, paths, chunksize=32)
            return _collect(paths, tqdm(results, "opening pictures", len(paths)))
        except BrokenProcessPool as error:
            raise CIRError(
                "a process that opens pictures died, perhaps for lack of memory\n"
                "try fewer workers, or leave the decoding out"
            ) from error


def _collect(paths: Sequence[Path], results: Iterable[str | None]) -> dict[Path, str]:
    pairs = zip(paths, results, strict=True)
    return {path: reason for path, reason in pairs if reason is not None}


def _reason(path: Path) -> str | None:
    try:
        open_image(path)
    except CIRError as error:
        return " ".join(str(error).splitlines())
    return None


def share(count: int, whole: int) -> str:
    """A number of queries out of all of them, with their percentage."""
    return f"{count:,} of {whole:,} queries ({percent_of(count, whole)})"


def percent_of(count: int, whole: int) -> str:
    """A share in percent, with one decimal."""
    return f"{percent(count / whole if whole else 0.0, digits=1)}%"
