"""``cir search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_plugins.cli.index import Device

if TYPE_CHECKING:
    from cir_plugins.search.query import Hit


Pictures = Annotated[
    list[Path] | None,
    typer.Option("--image", help="A picture; repeat for several.", show_default=False),
]
Text = Annotated[str, typer.Option("--text", help="What to change, or to look for.")]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", help="Id of an indexed picture.", show_default=False),
]
Filter = Annotated[str, typer.Option("--filter", help="Such as: price < 50 and brand == 'x'.")]
Number = Annotated[int, typer.Option("-k", min=1, help="Number of hits.")]
Weight = Annotated[
    float | None,
    typer.Option("--weight", help="Share of the text, 0 to 1.", show_default=False),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Id that is no hit; repeat.", show_default=False),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the hits here.", show_default=False)
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Also write a page with the pictures.", show_default=False),
]
Moved = Annotated[
    Path | None,
    typer.Option("--run", help="The run of the index, if it has been moved.", show_default=False),
]


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="What cir index wrote.")],
    image: Pictures = None,
    text: Text = "",
    reference: References = None,
    filter: Filter = "",
    k: Number = 10,
    weight: Weight = None,
    exclude: Excluded = None,
    json: Json = None,
    html: Html = None,
    run: Moved = None,
    device: Device = "",
) -> None:
    """Search an index by a picture, a text, or a picture and what to change in it."""
    from cir_plugins.files import write_json
    from cir_plugins.loading import load
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
    if html is not None:
        from cir_plugins.files import write_atomically
        from cir_plugins.search.page import hits_page

        images = [*(image or []), *(index.picture(name) for name in reference or [])]
        write_atomically(html, hits_page(hits, text, images).encode("utf-8", "replace"))
    _show(hits)


def _show(hits: list[Hit]) -> None:
    from cir_plugins.cli.terminal import make_console, plain_table
    from cir_plugins.search.query import value_text

    console = make_console()
    if not hits:
        console.print("no hits")
        return
    fields = list(hits[0].metadata)
    table = plain_table("rank", "score", "id", *fields)
    for rank, hit in enumerate(hits, 1):
        values = (value_text(hit.metadata[name]) for name in fields)
        table.add_row(str(rank), f"{hit.score:.4f}", hit.id, *values)
    console.print(table)
