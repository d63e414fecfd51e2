"""``cir audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_plugins.cli.eval import Device, Protocol
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options


def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the files.", show_default=False)
    ] = None,
    data: Data = "",
    root: Root = None,
    protocol: Protocol = "",
    sets: Sets = None,
    split: Annotated[
        str, typer.Option("--split", help="train or val, or test with known targets.")
    ] = "val",
    k: Annotated[int, typer.Option("--k", help="Rank up to which a query counts as solved.")] = 10,
    near: Annotated[
        float, typer.Option("--near", help="Likeness from which images are near-duplicates.")
    ] = 0.95,
    duplicates: Annotated[
        str,
        typer.Option("--duplicates", help="embedding (the run's own) or phash (needs imagehash)."),
    ] = "embedding",
    feature_cache: FeatureCache = None,
    device: Device = "",
) -> None:
    """Audit a run: shortcuts, order and wording of captions, slices, near-duplicates.

    Writes index.html, audit.json and queries.json.
    """
    from cir_plugins.audits.audit import audit as make_audit
    from cir_plugins.audits.audit import check_settings
    from cir_plugins.audits.page import summary_lines, write_audit
    from cir_plugins.cli.options import need
    from cir_plugins.retriever import load
    from cir_plugins.runs.build import check_role

    folder: Path = need(out, "--out")
    check_role(split)
    check_settings(k, near, duplicates)  # before any weights are read
    options = data_options(sets)
    found = make_audit(
        load(run, device=device, feature_cache=feature_cache),
        data,
        root,
        protocol=protocol,
        split=split,
        k=k,
        near=near,
        duplicates=duplicates,
        **options,
    )
    for line in summary_lines(found):
        typer.echo(line)
    for file in write_audit(found, folder):
        typer.echo(f"written: {file}")
