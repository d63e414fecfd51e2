"""``cir make-data`` and ``cir check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.doctor import Duplicates, Freeze, Near, Subset
from cir_plugins.cli.options import Data, Root, Sets, data_options, need

if TYPE_CHECKING:
    from cir_plugins.data.check import CheckReport
    from cir_plugins.data.split import Split

FOUND_ERRORS = 1
_HEADER = ("split", "queries", "gallery", "references", "missing", "broken", "queries lost")


def make_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What draws it, such as garments.")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    images: Annotated[
        int, typer.Option("--images", min=1, max=10_000_000, help="Number of images.")
    ] = 2000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**31 - 1, help="Same seed, same bytes.")
    ] = 0,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the generator, such as size=64 (cir show generator NAME).",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=256, help="Drawing processes; one per core if left out."
        ),
    ] = None,
) -> None:
    """Draw a data set in a reader's layout."""
    from cir_plugins.config.resolve import plan_component
    from cir_plugins.config.toml import parse_options
    from cir_plugins.plugins.registry import Registry

    planned = plan_component(Registry.load(), "generator", name, parse_options(sets or []))
    generator = planned.build()
    with planned.guarded(f"cannot make {out}"):
        generated = generator(out, images=images, seed=seed, workers=workers)
    for line in generated.lines:
        typer.echo(line)
    typer.echo(f"use it with: --data {generated.dataset} --root {out}")


Export = Annotated[
    Path | None,
    typer.Option(
        "--export",
        metavar="FILE.csv",
        help="Write the triplets here, as a table that --data triplets reads.",
        show_default=False,
    ),
]


def check(
    data: Data = "",
    root: Root = None,
    sets: Sets = None,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Whether to open every image.")
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, max=256, help="Processes that open images."),
    ] = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Write the id of every missing or broken image here, and what is wrong.",
            show_default=False,
        ),
    ] = None,
    duplicates: Duplicates = False,
    near: Near = 4,
    freeze: Freeze = None,
    subset: Subset = None,
    export: Export = None,
) -> None:
    """Count a data set and name missing or broken images.

    Counts the queries that are lost with them. Exit code 1 if anything is wrong.
    """
    from cir_plugins.config.resolve import plan_reader
    from cir_plugins.data.check import check as check_data
    from cir_plugins.plugins.registry import Registry

    folder = need(root, "--root DIR")
    planned = plan_reader(Registry.load(), need(data, "--data NAME"), data_options(sets))
    reader = planned.build()
    with planned.guarded(f"cannot read {folder}"):
        report = check_data(reader, folder, decode=decode, workers=workers)
    show_check(report)
    if list_file is not None:
        _write_list(list_file, report)
    if report.splits and (duplicates or freeze or subset or export):
        with planned.guarded(f"cannot read {folder}"):
            splits = reader(folder)
        if export is not None:
            _write_triplets(splits, folder, export)
        _examine(data, splits, near if duplicates else None, freeze, subset)
    if not report.ok:
        raise typer.Exit(FOUND_ERRORS)


def _examine(
    dataset: str, splits: list[Split], near: int | None, freeze: Path | None, subset: Path | None
) -> None:
    """Repeated pictures (without ``near`` none are looked for), and frozen data."""
    from cir_plugins.cli.doctor import require_subset, show_duplicates, write_frozen
    from cir_plugins.data.fingerprint import DataFingerprint

    if near is not None:
        show_duplicates(splits, near)
    if freeze is not None:
        write_frozen(freeze, dataset, splits)
    if subset is not None:
        require_subset(subset, DataFingerprint.of(dataset, splits))


def show_check(report: CheckReport) -> None:
    """Print a table of the splits, then notes and errors."""
    from cir_plugins.cli.terminal import make_console, plain_table

    console = make_console()
    if report.splits:
        table = plain_table(*_HEADER)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in _rows(report):
            table.add_row(*row)
        console.print(table)
        if not report.decoded:
            console.print("pictures were looked for but not opened")
    for label, messages in (("note", report.notes), ("error", report.errors)):
        for message in messages:
            console.print(f"{label}: {message}", soft_wrap=True)


def _rows(report: CheckReport) -> Iterator[tuple[str, ...]]:
    """The cells of each split, then sums of roles with several splits."""
    for split in report.splits:
        counts = (split.queries, split.gallery, split.references, split.missing, len(split.broken))
        cells = (f"{count:,}" for count in counts)
        yield split.name, *cells, _lost(split.lost, split.queries)
    lost = report.lost()
    for role, queries in report.queries().items():
        if sum(split.role == role for split in report.splits) > 1:
            yield f"all {role}", f"{queries:,}", "", "", "", "", _lost(lost[role], queries)


def _lost(lost: int, queries: int) -> str:
    from cir_plugins.data.check import percent_of

    return f"{lost:,} ({percent_of(lost, queries)})" if lost else "0"


def _write_triplets(splits: Sequence[Split], root: Path, file: Path) -> None:
    from cir_plugins.data.export import export_triplets

    written = export_triplets(splits, root, file)
    typer.echo(f"written: {file}, {written.rows:,} triplets")
    typer.echo(f"use it with: {written.use}")
    for note in written.notes:
        typer.echo(f"note: {note}")


def _write_list(file: Path, report: CheckReport) -> None:
    from cir_plugins.files import write_atomically

    images = report.unusable()
    lines = "".join(f"{name}\t{reason}\n" for name, reason in images.items())
    write_atomically(file, lines.encode())
    typer.echo(f"written: {file}, {len(images):,} images")
