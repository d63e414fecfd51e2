from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Running:
    """A service that answers on this machine."""

    address: str
    index: Any

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.address.rstrip("/").rpartition(":")[2])


@contextmanager
def serving(index: Any, **options: Any) -> Iterator[Running]:
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


@pytest.fixture(scope="session")
def index(garments_root: Path) -> Any:
    from tests.service.memory_index import drawn

    return drawn(garments_root)


@pytest.fixture(scope="session")
def service(index: Any) -> Iterator[Running]:
    """An open service over 120 drawn garments with metadata."""
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
    with serving(index) as running:
        yield running
