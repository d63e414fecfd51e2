"""The page: HTML, CSS and two files of JavaScript, which load nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from types import MappingProxyType

PAGE_FILES = MappingProxyType(
    {
        "/": ("index.html", "text/html"),
        "/style.css": ("style.css", "text/css"),
        "/filters.js": ("filters.js", "text/javascript"),
        "/page.js": ("page.js", "text/javascript"),
    }
)
"""Path of each file, with its name and media type."""


def page_file(name: str) -> bytes:
    """Content of one of the page's files."""
    return files(__name__).joinpath(name).read_bytes()
