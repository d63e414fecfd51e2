"""The service as a process: an address of its own, and an end on SIGTERM without a lost answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from cir_plugins.errors import CIRError
from cir_plugins.search.index import Index
from cir_plugins.service.app import make_app
from cir_plugins.service.limits import Limits
from cir_plugins.service.security import LOCAL_NAMES, Guard, check_exposure

_LAST_ANSWERS_SECONDS = 10
_BACKLOG = 2048


def serve(
    open_index: Callable[[], Index],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    limits: Limits | None = None,
    ready: Callable[[str, Index], None] = lambda address, index: None,
) -> None:
    """Serve an index until SIGTERM or Ctrl-C; requests in hand are answered before it ends.

    Args:
        open_index: Opens the index, once the address is known to be free.
        host: Address to listen on.
        port: Its port; 0 for any that is free.
        token: What requests must bring; needed where ``host`` is no address of this machine alone.
        limits: What a request may ask.
        ready: Called with the page's address and the index before the first request.

    Raises:
        CIRError: If the host is exposed without a token, the address cannot be had, or the index is
            damaged.
    """
    check_exposure(host, token)
    listener = bind(host, port)
    with listener:
        index = open_index()
        # Without a token a foreign page could have its own name resolved to this machine.
        names = () if token else {*LOCAL_NAMES, f"[{host}]" if ":" in host else host}
        app = make_app(index, token=token, names=names, limits=limits)
        listener.listen(_BACKLOG)  # who connects from now on waits for the server's first moment
        ready(_address(listener, host), index)
        with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
            make_server(app).run(sockets=[listener])


def make_server(app: Guard) -> uvicorn.Server:
    """The server of an application; it logs errors alone and does not name itself."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    return uvicorn.Server(config)


def bind(host: str, port: int) -> socket.socket:
    """A socket with the address, which does not listen yet.

    Raises:
        CIRError: If the address is taken or not of this machine.
    """
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((name, port))
    except (OSError, OverflowError, UnicodeError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise CIRError(
            f"{host}:{port} cannot be served: {reason}\n"
            "accepted: an address of this machine, and a free --port (0 takes any)"
        ) from error
    return listener


def _address(listener: socket.socket, host: str) -> str:
    name = host.strip("[]")
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listener.getsockname()[1]}/"
