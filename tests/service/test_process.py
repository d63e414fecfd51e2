from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from cir_plugins.search.index import Index
from tests.command import Call
from tests.places import ROOT

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")


@contextmanager
def started(
    folder: Path, *options: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, with its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cir_plugins", "serve", str(folder), "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving 120 pictures at http://127.0.0.1:"), process.communicate()
        yield process, line.split()[4]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_after_the_last_answer(index: Index, number: signal.Signals) -> None:
    """Queries in hand when a container is stopped were answered by a closed connection."""
    body = json.dumps({"text": "a red dress"}).encode()
    head = "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    wanted = {"hits": [hit.to_dict() for hit in index.search(text="a red dress")]}
    with started(index.folder) as (process, address), ExitStack() as stack:
        place = ("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
        links = [stack.enter_context(socket.create_connection(place, 60)) for _ in range(8)]
        for link in links:
            link.sendall(request)
        answers = [_answer(links[0])]
        process.send_signal(number)
        answers += [_answer(link) for link in links[1:]]
        out, err = process.communicate(timeout=60)
    assert answers == [wanted] * 8
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def _answer(link: socket.socket) -> object:
    parts = []
    while part := link.recv(65536):
        parts.append(part)
    return json.loads(b"".join(parts).partition(b"\r\n\r\n")[2])


def test_token_from_the_environment_counts(index: Index) -> None:
    token = "0123456789abcdef"
    with started(index.folder, CIR_TOKEN=token) as (_, address):
        assert httpx.get(f"{address}api/index").status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{address}api/index", headers=headers).status_code == 200


def test_what_cannot_be_served_is_one_message(cir: Call, index: Index, tmp_path: Path) -> None:
    folder = index.folder
    assert cir("serve", tmp_path / "nothing", "--port", "0").complains(str(tmp_path / "nothing"))
    assert cir("serve", folder, "--host", "0.0.0.0").complains("no token is set", "--token")
    assert cir("serve", folder, "--token", "short").complains("5 characters", "16 or more")
    assert cir("serve", folder, "--host", "192.0.2.1", "--token", "x" * 16).complains(
        "192.0.2.1:8000 cannot be served"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cir("serve", folder, "--port", str(port)).complains("in use", "a free --port")


def test_a_damaged_index_is_refused_at_start(cir: Call, index: Index, tmp_path: Path) -> None:
    """A service that starts on it would answer with wrong pictures, or with faults for ever."""
    for number, name in enumerate(sorted(p.name for p in index.folder.iterdir() if p.is_file())):
        if name.startswith("."):
            continue
        copy = tmp_path / str(number)
        shutil.copytree(index.folder, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        assert cir("serve", copy, "--port", "0").complains(str(copy)), name
