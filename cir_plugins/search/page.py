"""Hits as one HTML file with the pictures in it, which needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from cir_plugins.data.images import open_image
from cir_plugins.errors import CIRError
from cir_plugins.search.query import Hit, value_text

SIDE = 320  # pixels of the longer side of a picture on the page
_STYLE = (
    "body{font:16px/1.4 system-ui,sans-serif;margin:1.5rem;color:#1a1a1a;background:#fff}"
    "ul{list-style:none;padding:0;display:grid;gap:1rem;"
    "grid-template-columns:repeat(auto-fill,minmax(min(46%,11rem),1fr))}"
    "img{width:100%;height:14rem;object-fit:contain;border:1px solid #ddd;box-sizing:border-box}"
    ".query img{width:11rem}p,dl{margin:.25rem 0}dl{font-size:.85rem;color:#444}"
    "dt{float:left;margin-right:.4em}dt::after{content:':'}dd{margin:0;overflow-wrap:anywhere}"
)


def hits_page(hits: Sequence[Hit], text: str, images: Sequence[Path]) -> str:
    """An HTML page of a query and its hits; everything in it is escaped.

    Args:
        hits: Best first.
        text: The text of the query.
        images: The pictures of the query.

    Raises:
        CIRError: If a picture of the query cannot be read.
    """
    query = "".join(f'<img src="{_inline(path)}" alt="the query">' for path in images)
    items = "\n".join(_item(rank, hit) for rank, hit in enumerate(hits, 1))
    title = escape(text) or "pictures like this one"
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<div class="query">{query}</div>\n<ul>\n{items}\n</ul>\n</body>\n</html>\n'
    )


def _item(rank: int, hit: Hit) -> str:
    try:
        picture = f'<img src="{_inline(Path(hit.path))}" alt="{escape(hit.id)}">'
    except CIRError:  # it was there when it was indexed
        picture = "<p>the picture cannot be read</p>"
    values = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value_text(value))}</dd>"
        for name, value in hit.metadata.items()
        if value is not None
    )
    return f"<li>{picture}<p>{rank}. {escape(hit.id)}, {hit.score:.4f}</p><dl>{values}</dl></li>"


def _inline(path: Path) -> str:
    """A picture, made small, as a ``data:`` address."""
    picture = open_image(path)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
