from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cir_plugins as cir
from cir_plugins.search.index import Index


@dataclass(frozen=True)
class Running:
    """A service that answers on this machine."""

    address: str
    index: Index

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.address.rstrip("/").rpartition(":")[2])


@contextmanager
def serving(index: Index, **options: Any) -> Iterator[Running]:
    """A service on a free port, in a thread of its own."""
    from cir_plugins.service.app import make_app
    from cir_plugins.service.server import bind, make_server

    with bind("127.0.0.1", 0) as listener:
        server = make_server(make_app(index, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        end = time.monotonic() + 30
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        try:
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}/", index)
        finally:
            server.should_exit = True
            thread.join(30)


BRANDS = ("red", "blue", "it's <b>bold</b>")


def metadata_of(names: list[str]) -> dict[str, dict[str, Any]]:
    """A row for each picture: texts that are no HTML, numbers, flags, and a gap."""
    return {
        name: {
            "brand": BRANDS[number % 3],
            "price": None if number == 5 else 10.0 + number,
            "on sale": number % 2 == 0,
            "title": f"<img src=x onerror=alert(1)> {number}",
        }
        for number, name in enumerate(names)
    }


@pytest.fixture(scope="session")
def index(garments_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of 120 drawn garments with metadata; a training-free method."""
    import torch

    torch.set_num_threads(1)
    retriever = cir.build("image_text_sum", backbone="tiny_clip", device="cpu", progress=False)
    images = garments_root / "images"
    metadata = metadata_of(sorted(path.name for path in images.iterdir()))
    out = tmp_path_factory.mktemp("index") / "garments"
    return Index.build(retriever, images, out, metadata=metadata, progress=False)


@pytest.fixture(scope="session")
def service(index: Index) -> Iterator[Running]:
    """An open service over 120 drawn garments with metadata."""
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
    with serving(index) as running:
        yield running
