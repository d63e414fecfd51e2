"""``cir report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the files; RUN if left out.", show_default=False),
    ] = None,
) -> None:
    """Report on a run: training curves and the negative pools of its sampler.

    Writes report.html, sampler.json and, where negatives were mined, sampler.png. Exit code 1 if
    there is an alarm.
    """
    from cir_plugins.bench.page import Drawing, write_run_page
    from cir_plugins.bench.sampler_picture import sampler_png
    from cir_plugins.bench.sampling import HEADS, negatives_per_query, sampler_report
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.files import write_atomically, write_json
    from cir_plugins.runs.load import read_run

    config, curve = read_run(run)
    mining = sampler_report(curve, negatives_per_query(config))
    folder = out or run
    page, numbers = folder / "report.html", folder / "sampler.json"
    write_run_page(page, config["method"]["name"], curve, mining)
    write_json(numbers, mining.document())
    files = [page, numbers]
    if mining.lines:
        picture = Drawing().draw("sampler.png", lambda: sampler_png(mining), b"")
        if picture:
            files.append(folder / "sampler.png")
            write_atomically(files[-1], picture)
    table = plain_table(*HEADS)
    for cells in mining.cells:
        table.add_row(*cells)
    make_console().print(table if mining.lines else "no negatives were mined in this run")
    if mining.positives_across:
        typer.echo(f"positives known only across triplets: {mining.positives_across:,}")
    for file in files:
        typer.echo(f"written: {file}")
    for alarm in mining.alarms:
        typer.echo(f"alarm: {alarm}", err=True)
    if mining.alarms:
        raise typer.Exit(1)
