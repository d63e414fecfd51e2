"""``cir preference``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from cir_plugins.cli.eval import Json
from cir_plugins.cli.options import Root, need


def preference(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    items: Annotated[
        Path | None,
        typer.Option("--items", metavar="FILE", help="HP-FashionIQ's hpfiq.json."),
    ] = None,
    root: Root = None,
    missing: Annotated[
        str, typer.Option("--missing", help="error, or drop: leave out items without pictures.")
    ] = "error",
    json: Json = None,
) -> None:
    """Compare a run with people's choices between two sets of retrieved images (HP-FashionIQ)."""
    from cir_plugins.data.percent import percent
    from cir_plugins.data.readers.hp_fashioniq import read_preferences
    from cir_plugins.errors import unknown_name
    from cir_plugins.files import write_json
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.retrieval.preference import evaluate_preference
    from cir_plugins.runs.load import open_run
    from cir_plugins.runs.protocol import caption_rules_of

    file, folder = need(items, "--items FILE"), need(root, "--root DIR")
    if missing not in ("error", "drop"):
        raise unknown_name("value of --missing", missing, ("error", "drop"))
    what: Literal["error", "drop"] = "drop" if missing == "drop" else "error"
    plan, method, encoding = open_run(run, Registry.load())
    # The sentences are stored as they were shown: nothing is done to single captions.
    rules = replace(caption_rules_of(plan), strip=False, capitalise=False)
    data = read_preferences(file, folder, rules, what)
    result = evaluate_preference(method, data, encoding)
    lines = {
        "preference ratio (first set higher)": result.preference_ratio,
        "a random scorer has": result.first_preferred,
        "agreement (both directions; random 50)": result.agreement,
    }
    for name, value in lines.items():
        typer.echo(f"{name:<40}{percent(value):>6}")
    typer.echo(f"{result.items:,} items, {result.ties:,} ties, {data.left_out:,} left out")
    if json is not None:
        write_json(json, {"dataset": "hp_fashioniq", **asdict(result), "left_out": data.left_out})
