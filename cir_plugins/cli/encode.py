"""``cir encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cir_plugins.cli.interrupt import command_of, resumable
from cir_plugins.cli.options import Data, Root, need

WHAT = ("targets", "features")
STORED = ("same", "fp32", "fp16", "bf16")
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the shards.", show_default=False)
]


def encode(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of images, searched whole.", show_default=False),
    ] = None,
    data: Data = "",
    root: Root = None,
    out: Out = None,
    what: Annotated[str, typer.Option("--what", help="targets or features.")] = "targets",
    dtype: Annotated[str, typer.Option("--dtype", help="same, fp32, fp16 or bf16.")] = "same",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Images a shard.")] = 1024,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be read.")
    ] = False,
) -> None:
    """Encode many images with a run's weights; shards that are done are kept.

    Under torchrun each process writes its share of the shards.
    """
    from cir_plugins.errors import CIRError, unknown_name

    for option, value, accepted in (("--what", what, WHAT), ("--dtype", dtype, STORED)):
        if value not in accepted:
            raise unknown_name(f"value of {option}", value, accepted)
    folder = need(out, "--out DIR")
    if (images is None) == (not data):
        raise CIRError("accepted: --images DIR, or --data NAME with --root DIR")
    from cir_plugins.distributed.rendezvous import rank_and_world_size
    from cir_plugins.encoding.export import (
        ExportSettings,
        encode_images,
        images_of,
        spread_over_gpus,
    )
    from cir_plugins.plugins.registry import Registry
    from cir_plugins.runs.load import images_of_data, open_run

    rank, world_size = rank_and_world_size()
    spread_over_gpus()
    registry = Registry.load()
    files = (
        images_of(images)
        if images is not None
        else images_of_data(registry, data, need(root, "--root DIR"))
    )
    _, method, encoding = open_run(run, registry, progress=rank == 0)
    kind: Literal["targets", "features"] = "features" if what == "features" else "targets"
    settings = ExportSettings(kind, shard_size, dtype, skip_broken, rank, world_size)
    with resumable((folder, command_of(context.obj))):
        manifest = encode_images(method, files, folder, encoding, settings)
    if manifest is not None:
        typer.echo(f"written: {manifest}")
