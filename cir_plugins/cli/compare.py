"""``cir compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_plugins.cli.options import Data, Root, Sets, data_options
from cir_plugins.errors import CIRError

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]RUN...",
        help="Folders of runs; those of one NAME are its seeds. NAME is the folder's if left out.",
    ),
]
Baseline = Annotated[
    str, typer.Option("--baseline", help="NAME to compare with; the first run if left out.")
]
Protocol = Annotated[
    str, typer.Option("--protocol", help="Preset of the reader (cir show dataset).")
]
Measure = Annotated[
    str, typer.Option("--measure", help="What is compared, such as recall@10; or main.")
]
PerMeasure = Annotated[
    bool, typer.Option("--per-measure", help="Also every measure's interval, in csv and json.")
]
Form = Annotated[str, typer.Option("--format", help="text, markdown, latex, csv or json.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the table here.", show_default=False),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of resampling and randomisation.")
]


def compare(
    runs: Folders,
    baseline: Baseline = "",
    data: Data = "",
    root: Root = None,
    protocol: Protocol = "",
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "val",
    measure: Measure = "main",
    per_measure: PerMeasure = False,
    form: Form = "text",
    out: Out = None,
    seed: Seed = 0,
    sets: Sets = None,
) -> None:
    """Compare runs on the same queries: differences, intervals, p-values, wins and losses."""
    from cir_plugins.bench.compare import compare as compare_runs
    from cir_plugins.bench.comparison import FORMATS
    from cir_plugins.errors import unknown_name
    from cir_plugins.files import write_atomically
    from cir_plugins.runs.build import check_role
    from cir_plugins.runs.folder import check_record

    check_role(split)
    options = data_options(sets)
    if form not in FORMATS:  # before any run is evaluated
        raise unknown_name("format", form, FORMATS)
    named = named_runs(runs)
    if baseline and baseline not in named:
        raise unknown_name("baseline", baseline, named)
    for folders in named.values():
        for folder in folders:
            check_record(folder)
    table = compare_runs(
        named,
        baseline,
        measure=measure,
        data=data,
        root=root,
        protocol=protocol,
        split=split,
        seed=seed,
        per_measure=per_measure,
        **options,
    )
    text = table.text_in(form)
    if out is None:
        typer.echo(text)
    else:
        write_atomically(out, f"{text}\n".encode())
        typer.echo(f"written: {out}")


def named_runs(runs: list[str]) -> dict[str, list[Path]]:
    """Name -> run folders, from ``NAME=RUN`` or ``RUN``.

    Raises:
        CIRError: If two folders of one name were not given it, or a folder is given twice.
    """
    named: dict[str, list[Path]] = {}
    implicit: set[str] = set()
    for text in runs:
        label, equals, place = text.partition("=")
        explicit = bool(equals) and not Path(text).exists()
        folder = Path(place if explicit else text)
        name = label if explicit else folder.resolve().name
        if not name or (name in named and (not explicit or name in implicit)):
            raise CIRError(
                f"two runs have the name '{name}'; accepted: NAME={folder} with a name of its own, "
                "or NAME= for all of them if they are seeds of one method"
            )
        if not explicit:
            implicit.add(name)
        if folder.resolve() in [each.resolve() for each in named.get(name, [])]:
            raise CIRError(f"run {folder} is given twice; accepted: each seed of '{name}' once")
        named.setdefault(name, []).append(folder)
    return named
