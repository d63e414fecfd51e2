"""Requests that nobody means to send, or only on purpose: an answer each, nothing written."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cir_plugins.search.index import Index
from cir_plugins.service.limits import Limits
from tests.service.conftest import Running, serving

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
COUNT = 300
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_written: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _written is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        _written.append(str(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "tempfile.mkstemp"):
        _written.append(f"{event} {arguments[0]}")


@pytest.fixture(scope="module")
def impatient(index: Index) -> Iterator[Running]:
    """A service that soon gives up on a body that does not end."""
    with serving(index, limits=Limits(body_seconds=0.3)) as running:
        yield running


@contextmanager
def writes() -> Iterator[list[str]]:
    """Files that this process, server and all, opens for writing."""
    global _written
    _written = []
    if not getattr(sys, "_cir_audited", False):
        sys.addaudithook(_audit)
        sys._cir_audited = True  # type: ignore[attr-defined]
    try:
        yield _written
    finally:
        _written = None


METHODS = ("POST", "GET", "PUT", "DELETE", "PATCH", "TRACE", "\x00", "post")
PATHS = (
    *("/api/search", "/api/search/", "/api/pictures/../../etc/passwd", "/api/pictures/"),
    *("/../../../etc/passwd", "/page/../../app.py", "/api/pictures/%2e%2e%2f", "//", "/api"),
    *("/api/pictures/a?side=1e9", "/%ff%fe", "/api/session", "/static/app.py", "/" + "a" * 9000),
)
TYPES = (
    *("application/json", "multipart/form-data", "multipart/form-data; boundary=b", ""),
    *("application/x-www-form-urlencoded", "text/html", "application/json; charset=utf-99"),
    *(
        "multipart/form-data; boundary=\xff",
        "image/png",
        "multipart/form-data; charset=x; boundary=b",
    ),
)
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n'
BODIES = (
    *(
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"k": 1e999}',
        b'{"text": null}',
        b"\x00" * 99,
    ),
    *(b'{"text": "x", "k": -1}', b'{"text": "x", "k": 1.5}', b'{"reference": {"a": 1}}', b"NaN"),
    *(b'{"text": "x", "filter": "__import__(\'os\').system(\'id\')"}', b'{"image": "../../x"}'),
    *(b'{"text": "x", "weight": NaN}', b'{"text": "x", "filter": "price < "}', b"\xff\xfe{}"),
    *(b'{"reference": "/etc/passwd"}', b'{"reference": "\\u0000"}', b'{"__proto__": {}}'),
    b'{"text": "x", "k": ' + b"9" * 5000 + b"}",
    b"[" * 5000 + b"]" * 5000,
    PART % (b"text", b"") + b"--b--\r\n",
    PART % (b"k", b"x") + PART % (b"text", b"x") + b"--b--\r\n",
    PART % (b"\xff", b"\xff") + b"--b--\r\n",
    PART % (b"image", b"/etc/passwd") + b"--b--\r\n",
    FILE % (b"../../x.png", b"\x89PNG\r\n\x1a\n") + b"--b--\r\n",
    FILE % (b"x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>") + b"--b--\r\n",
    FILE % (b"x.jpg", b"\xff\xd8\xff\xe0" + b"\x00" * 500) + b"--b--\r\n",
    FILE % (b"x.gif", b"GIF89a\xff\xff\xff\xff\x80\x00\x00") + b"--b--\r\n",
    FILE % (b"x", b"BM" + b"\xff" * 60) + b"--b--\r\n",
    PART % (b"text", b"x" * 70_000) + b"--b--\r\n",
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\n" + b"A: b\r\n" * 3000 + b"\r\nx\r\n--b--\r\n",
    b"--b",
)
EXTRA = (
    *(b"", b"Expect: 100-continue\r\n", b"Content-Length: -5\r\n", b"Content-Length: 1e3\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Host: a\r\nHost: b\r\n", b"X: " + b"y" * 9000 + b"\r\n"),
    *(b"Cookie: \x01=\x02\r\n", b"Range: bytes=0-\r\n", b"Authorization: Bearer\r\n", b": x\r\n"),
)


def drawn_request(rng: random.Random) -> bytes:
    """A request that is wrong in some way, most of them in the body of a search."""
    usual = rng.random() < 0.6
    method = "POST" if usual else rng.choice(METHODS)
    path = "/api/search" if usual else rng.choice(PATHS)
    body = rng.choice(BODIES)
    kind = rng.choice(TYPES)
    if usual and rng.random() < 0.7:
        kind = TYPES[2] if body.startswith(b"--b") else TYPES[0]
    if rng.random() < 0.3 and body:  # one byte of it is another one
        place = rng.randrange(len(body))
        body = body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    extra = b"" if usual and rng.random() < 0.8 else rng.choice(EXTRA)
    length = (
        b""
        if b"Content-Length" in extra or b"chunked" in extra
        else (f"Content-Length: {len(body)}\r\n".encode())
    )
    return head.encode("latin-1") + extra + length + b"Connection: close\r\n\r\n" + body


def answer_to(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), 20) as link:
        link.sendall(request)
        parts = []
        while part := link.recv(65536):
            parts.append(part)
    answer = b"".join(parts)
    while answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def test_malformed_requests_end_in_a_message(
    impatient: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each of them: status 4xx, one message, no traceback anywhere, and no file written."""
    rng = random.Random(0)
    before = sorted(path for path in impatient.index.folder.rglob("*"))
    refused = 0
    with writes() as written:
        while refused < COUNT:
            request = drawn_request(rng)
            status, body = answer_to(impatient.port, request)
            if status == 200:  # a changed byte of a text is a text, and some paths are the page's
                continue
            refused += 1
            assert 400 <= status < 500, (status, request[:300], body[:300])
            assert b"Traceback" not in body
            assert b'File "' not in body
            if body.startswith(b"{"):
                assert json.loads(body)["error"], request[:300]
            else:  # the server's own, before there is a request
                assert b"Invalid HTTP request received." in body, (request[:300], body)
    assert written == []
    assert sorted(path for path in impatient.index.folder.rglob("*")) == before
    assert "Traceback" not in "".join(capfd.readouterr())
    assert answer_to(impatient.port, b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")[0] == 200


def test_the_detector_sees_a_file(tmp_path: Any) -> None:
    with writes() as written:
        (tmp_path / "a").write_text("x")
    assert written == [str(tmp_path / "a")]
