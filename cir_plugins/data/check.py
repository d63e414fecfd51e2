"""Whether a data folder is complete: counts, missing and broken pictures, and what they cost."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from cir_plugins.data.images import open_image
from cir_plugins.data.readers.missing import absence
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.plugins.declarations import ANNOTATIONS, NOTES

HEADER = ("split", "queries", "gallery", "references", "missing", "broken", "queries lost")
_SHOWN = 10
# Starting processes costs more than decoding this many pictures in this one.
_WORTH_WORKERS = 400


@dataclass(frozen=True)
class SplitCheck:
    """What was found out about one split.

    Attributes:
        name: Name of the split.
        role: ``train``, ``val`` or ``test``.
        queries: Queries, one per triplet unless the protocol asks two texts of each.
        gallery: Images that are ranked.
        references: Distinct reference images.
        missing: Distinct images without a file, of gallery and queries.
        broken: Image id -> why its file cannot be used.
        lost_references: Queries whose reference is missing or broken.
        lost_targets: Other queries whose target is missing or broken.
    """

    name: str
    role: str
    queries: int
    gallery: int
    references: int
    missing: int
    broken: Mapping[str, str]
    lost_references: int
    lost_targets: int

    @property
    def lost(self) -> int:
        """Queries that cannot be asked."""
        return self.lost_references + self.lost_targets

    def row(self) -> tuple[str, ...]:
        """The cells of this split's line in the table."""
        counts = (self.queries, self.gallery, self.references, self.missing, len(self.broken))
        lost = f"{self.lost:,} ({_percent(self.lost, self.queries)})" if self.lost else "0"
        return (self.name, *(f"{count:,}" for count in counts), lost)


@dataclass(frozen=True)
class CheckReport:
    """What a check of a data folder found.

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

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells under ``HEADER``: the splits, then sums of roles with several."""
        rows = [split.row() for split in self.splits]
        for role, queries in self.queries().items():
            parts = [split for split in self.splits if split.role == role]
            if len(parts) > 1:
                lost = sum(part.lost for part in parts)
                share = f"{lost:,} ({_percent(lost, queries)})" if lost else "0"
                rows.append((f"all {role}", f"{queries:,}", "", "", "", "", share))
        return rows

    def lines(self) -> list[str]:
        """The report as plain text, a table and then notes and errors."""
        lines = _table([HEADER, *self.rows()]) if self.splits else []
        if self.splits and not self.decoded:
            lines.append("pictures were looked for but not opened")
        lines += [f"note: {note}" for note in self.notes]
        return lines + [f"error: {error}" for error in self.errors]


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
        reader: A reader; its ``annotations`` and ``notes`` are used where it has them.
        root: Data folder.
        decode: Open every picture, with a progress bar on stderr.
        workers: Processes that open pictures; None for one per core, 8 at most.
    """
    root = Path(root)
    annotations = ANNOTATIONS.of(reader) or reader
    notes = NOTES.of(reader)
    try:
        splits = annotations(root)
        found = notes(root) if notes else []
        paths = {path for split in splits for path in split.paths.values()}
        reasons = _broken(sorted(paths), workers) if decode else {}
    except CIRError as error:
        return CheckReport(root, decoded=False, errors=[str(error)])
    checks = tuple(_check_split(split, reasons) for split in splits)
    found += [f"{split.name}: {_cost(split)}" for split in checks if _harmless(split)]
    return CheckReport(root, checks, decode, _errors(root, checks, bool(paths)), found)


def _check_split(split: Split, reasons: Mapping[Path, str]) -> SplitCheck:
    usable = {name: path for name, path in split.paths.items() if path not in reasons}
    lack = absence(split, usable)
    return SplitCheck(
        name=split.name,
        role=split.role,
        queries=len(split.queries),
        gallery=len(split.gallery),
        references=len({query.reference for query in split.queries}),
        missing=sum(name not in split.paths for name in lack.images),
        broken={n: reasons[path] for n, path in split.paths.items() if path in reasons},
        lost_references=lack.references,
        lost_targets=lack.targets,
    )


def _harmless(split: SplitCheck) -> bool:
    """Whether all that a split lacks is training pictures that no triplet needs."""
    return split.missing > 0 and split.role == "train" and not split.lost and not split.broken


def _errors(root: Path, checks: Sequence[SplitCheck], pictures: bool) -> list[str]:
    if not checks:
        return [f"no split was found in {root}"]
    if not pictures:
        lost, queries = (sum(getattr(c, name) for c in checks) for name in ("lost", "queries"))
        return [
            f"not one picture was found in {root}: "
            f"{lost:,} of {queries:,} queries ({_percent(lost, queries)}) cannot be asked"
        ]
    errors: list[str] = []
    for split in checks:
        if (split.missing or split.broken) and not _harmless(split):
            errors.append(f"{split.name}: {_cost(split)}")
        errors += list(split.broken.values())[:_SHOWN]
        if len(split.broken) > _SHOWN:
            errors.append(f"{split.name}: {len(split.broken) - _SHOWN:,} more images are broken")
    return errors


def _cost(split: SplitCheck) -> str:
    share = f"{split.lost:,} of {split.queries:,} queries ({_percent(split.lost, split.queries)})"
    lack = f"{split.missing:,} images are missing and {len(split.broken):,} broken"
    whose = f"{split.lost_references:,} lack the reference, {split.lost_targets:,} only the target"
    return f"{lack}, which costs {share}: {whose}"


def _broken(paths: Sequence[Path], workers: int | None) -> dict[Path, str]:
    """Why each picture that cannot be opened cannot."""
    count = min(os.cpu_count() or 1, 8) if workers is None else workers
    if count <= 1 or len(paths) < _WORTH_WORKERS:
        here = map(_reason, paths)
        return _collect(paths, tqdm(here, "opening pictures", len(paths), disable=not paths))
    # Spawned, as forking a process that has started threads can hang it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
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


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return lines
