"""``cir index``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cir_plugins.cli.interrupt import command_of, resumable
from cir_plugins.cli.options import Sets, need
from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.retriever import Retriever
    from cir_plugins.search.update import Changes

Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda or mps; the run's own if left out."),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of pictures, searched whole.", show_default=False),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the index.", show_default=False)]
MetadataFile = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        help="CSV, TSV, JSON, JSONL or Parquet with a row for each picture.",
        show_default=False,
    ),
]
Group = Annotated[
    str,
    typer.Option("--group", help="Field that views of one product share; they are one hit."),
]
Backend = Annotated[str, typer.Option("--backend", help="Search backend (cir list index).")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures at a time.")]
SHOWN = 10  # pictures that are named


def index(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="RUN|METHOD", help="Folder of a run, or an untrained method.")
    ],
    images: Images = None,
    out: Out = None,
    metadata: MetadataFile = None,
    group: Group = "",
    backend: Backend = "exact",
    sets: Sets = None,
    batch_size: BatchSize = 64,
    device: Device = "",
) -> None:
    """Index a folder of pictures, or bring its index up to date.

    Options of the backend are set as index.OPTION=value. Under torchrun each process encodes its
    share of the pictures.
    """
    from cir_plugins.config.toml import parse_set
    from cir_plugins.encoding.export import spread_over_gpus
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.search.inputs import files_of
    from cir_plugins.search.update import plan_backend, update_index

    folder = need(out, "--out INDEX")
    mine = [each for each in sets or [] if each.strip().startswith("index.")]
    others = [each for each in sets or [] if each not in mine]
    options = _backend_options(mine)
    registry = Registry.load()
    planned = plan_backend(registry, {"name": backend, **options})
    files, root = files_of(need(images, "--images DIR"))
    spread_over_gpus()
    retriever = open_retriever(registry, model, parse_set(others), device)
    with resumable((folder, command_of(context.obj))):
        changes = update_index(
            retriever,
            files,
            folder,
            root=root,
            metadata=metadata,
            backend=planned,
            group=group,
            batch_size=batch_size,
            progress=True,
        )
    if changes is not None:
        _show(folder, changes)


def _backend_options(assignments: list[str]) -> dict[str, Any]:
    from cir_plugins.config.toml import parse_options

    return parse_options(each.strip().removeprefix("index.") for each in assignments)


def open_retriever(
    registry: Registry, model: str, config: dict[str, dict[str, Any]], device: str
) -> Retriever:
    """The retriever of a run folder, or of a method that needs no training.

    Raises:
        CIRError: If it is neither, an option is unknown, or a method is named that must be trained.
    """
    from cir_plugins.loading import build, load

    if (Path(model) / "config.toml").is_file() or "/" in model or Path(model).is_dir():
        if config:
            raise CIRError(
                f"--set {next(iter(config))}... has no effect on a run\n"
                "accepted: index.OPTION=value"
            )
        return load(model, device=device, registry=registry)
    names = [offer.name for offer in registry.offers("method")]
    if model not in names:
        from cir_plugins.errors import unknown_name

        raise unknown_name("run folder or method", model, names)
    method = registry.factory("method", model)
    if getattr(method, "trained", True):
        raise CIRError(
            f"method '{model}' must be trained first; accepted: the folder of a run, or a method "
            "without training, such as image_text_sum"
        )
    tables = {key: table for key, table in config.items() if key not in ("method", "backbone")}
    if tables:
        raise CIRError(
            f"--set {next(iter(tables))}... has no effect here; accepted: backbone=NAME, "
            "backbone.OPTION=value, method.OPTION=value, index.OPTION=value"
        )
    return build(
        model,
        backbone=config.get("backbone"),
        device=device or "auto",
        registry=registry,
        **config.get("method", {}),
    )


def _show(folder: Path, changes: Changes) -> None:
    typer.echo(
        f"written: {folder}, {changes.pictures:,} pictures: {changes.added:,} new, "
        f"{changes.changed:,} changed, {changes.removed:,} removed, "
        f"{len(changes.left_out):,} left out"
    )
    for name, why in list(changes.left_out.items())[:SHOWN]:
        typer.echo(f"left out: {name}: {' '.join(why.splitlines())}")
    if len(changes.left_out) > SHOWN:
        typer.echo(f"left out: {len(changes.left_out) - SHOWN:,} more, named in index.json")
