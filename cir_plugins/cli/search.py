"""``cir search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.index import Device

if TYPE_CHECKING:
    from cir_plugins.search.query import Hit


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="What cir index wrote.")],
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="A picture; repeat for several.", show_default=False),
    ] = None,
    text: Annotated[str, typer.Option("--text", help="What to change, or to look for.")] = "",
    reference: Annotated[
        list[str] | None,
        typer.Option("--reference", help="Id of an indexed picture.", show_default=False),
    ] = None,
    filter: Annotated[
        str, typer.Option("--filter", help="Such as: price < 50 and brand == 'x'.")
    ] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="Number of hits.")] = 10,
    weight: Annotated[
        float | None,
        typer.Option("--weight", help="Share of the text, 0 to 1.", show_default=False),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="Id that is no hit; repeat.", show_default=False),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write the hits here.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="The run of the index, if it has been moved.", show_default=False
        ),
    ] = None,
    device: Device = "",
) -> None:
    """Search an index by a picture, a text, or a picture and what to change in it."""
    from cir_plugins.files import write_json
    from cir_plugins.retriever import load
    from cir_plugins.search.index import Index

    retriever = None if run is None else load(run, device=device, progress=False)
    index = Index.open(folder, device=device, retriever=retriever)
    hits = index.search(
        list(image) if image else None,
        text,
        reference=reference or (),
        k=k,
        filter=filter,
        weight=weight,
        exclude=exclude or (),
    )
    if json is not None:
        write_json(json, {"hits": [hit.to_dict() for hit in hits]})
    _show(hits)


def _show(hits: list[Hit]) -> None:
    from cir_plugins.cli.terminal import make_console, plain_table

    console = make_console()
    if not hits:
        console.print("no hits")
        return
    fields = list(hits[0].metadata)
    table = plain_table("rank", "score", "id", *fields)
    for rank, hit in enumerate(hits, 1):
        values = ("" if hit.metadata[name] is None else str(hit.metadata[name]) for name in fields)
        table.add_row(str(rank), f"{hit.score:.4f}", hit.id, *values)
    console.print(table)
