"""``cir serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.index import Device
from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from cir_plugins.search.index import Index

Folder = Annotated[Path, typer.Argument(metavar="INDEX", help="What cir index wrote.")]
Host = Annotated[
    str,
    typer.Option("--host", help="Address to listen on; any but this machine's needs a token."),
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Its port; 0 takes any free one.")
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="CIR_TOKEN",
        help="What requests must bring, 16 characters or more.",
        show_default=False,
    ),
]
Run = Annotated[
    Path | None,
    typer.Option("--run", help="The run of the index, if it has been moved.", show_default=False),
]
UploadMib = Annotated[
    int, typer.Option("--upload-mib", min=1, max=100, help="MiB of an uploaded picture.")
]


def serve(
    folder: Folder,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = "",
    run: Run = None,
    device: Device = "",
    upload_mib: UploadMib = 10,
) -> None:
    """Serve an index: a page to search it with, and a JSON API (GET /docs)."""
    try:
        from cir_plugins.service.limits import MIB, Limits
        from cir_plugins.service.server import serve as serve_index
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "starlette"):
            raise
        raise CIRError(
            f"cir serve needs {error.name}; install it with: pip install 'cir-plugins[serve]'"
        ) from error

    def open_index() -> Index:
        from cir_plugins.loading import load
        from cir_plugins.search.index import Index

        retriever = None if run is None else load(run, device=device, progress=False)
        return Index.open(folder, device=device, retriever=retriever)

    def ready(address: str, index: Index) -> None:
        typer.echo(f"serving {len(index)} pictures at {address} (Ctrl-C ends)")

    limits = Limits(upload_bytes=upload_mib * MIB)
    serve_index(open_index, host=host, port=port, token=token, limits=limits, ready=ready)
    typer.echo("stopped", err=True)
