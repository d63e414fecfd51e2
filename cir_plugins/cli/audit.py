"""``cir audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir_plugins.cli.eval import Device, Protocol
from cir_plugins.cli.options import Data, FeatureCache, Root, Sets, data_options

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the files.", show_default=False)]
Split = Annotated[str, typer.Option("--split", help="train or val, or test with known targets.")]
K = Annotated[int, typer.Option("--k", help="Rank up to which a query counts as solved.")]
Near = Annotated[
    float, typer.Option("--near", help="Likeness from which images are near-duplicates.")
]
Duplicates = Annotated[
    str,
    typer.Option("--duplicates", help="embedding (the run's own) or phash (needs imagehash)."),
]


def audit(
    run: Run,
    out: Out = None,
    data: Data = "",
    root: Root = None,
    protocol: Protocol = "",
    sets: Sets = None,
    split: Split = "val",
    k: K = 10,
    near: Near = 0.95,
    duplicates: Duplicates = "embedding",
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
    from cir_plugins.loading import load
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.runs.build import check_role

    folder: Path = need(out, "--out")
    check_role(split)
    check_settings(k, near, duplicates)  # before any weights are read
    options = data_options(sets)
    retriever = load(run, device=device, feature_cache=feature_cache, registry=Registry.load())
    found = make_audit(
        retriever,
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
