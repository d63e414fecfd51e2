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
    """Report on a run: training curves and what its sampler left to draw from.

    Writes report.html, sampler.json and, where negatives were mined, sampler.png. Exit code 1 if
    there is an alarm.
    """
    from cir_plugins.bench.page import write_run_page
    from cir_plugins.bench.sampler_picture import sampler_png
    from cir_plugins.bench.sampling import HEADS, drawn, sampler_report
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.files import write_atomically, write_json
    from cir_plugins.runs.load import read_run

    config, curve = read_run(run)
    found = sampler_report(curve, drawn(config))
    folder = out or run
    page, numbers = folder / "report.html", folder / "sampler.json"
    write_run_page(page, config["method"]["name"], curve, found)
    write_json(numbers, found.document())
    written = [page, numbers]
    if found.lines:
        written.append(folder / "sampler.png")
        write_atomically(written[-1], sampler_png(found))
    table = plain_table(*HEADS)
    for cells in found.cells:
        table.add_row(*cells)
    make_console().print(table if found.lines else "no negatives were mined in this run")
    for file in written:
        typer.echo(f"written: {file}")
    for alarm in found.alarms:
        typer.echo(f"alarm: {alarm}", err=True)
    if found.alarms:
        raise typer.Exit(1)
