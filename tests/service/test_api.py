from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from cir_plugins.search.query import SearchQuery
from cir_plugins.service.limits import Limits
from tests.service.conftest import Running, serving

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
TOKEN = "0123456789abcdef0123"


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.address) as client:
        yield client


def expected(index: Any, **query: Any) -> list[dict[str, Any]]:
    return [hit.to_dict() for hit in index.search_many([SearchQuery(**query)])[0]]


def png(size: tuple[int, int] = (8, 8), form: str = "PNG") -> bytes:
    out = BytesIO()
    Image.new("RGB", size, "red").save(out, form)
    return out.getvalue()


def test_text_search_gives_the_hits_of_python(service: Running, client: httpx.Client) -> None:
    """A rounded score or another order would be a second ranking beside that of the library."""
    answer = client.post("/api/search", json={"text": " a red dress ", "k": 7})
    assert answer.status_code == 200
    assert answer.json() == {"hits": expected(service.index, text="a red dress", k=7)}


def test_form_json_and_python_agree(service: Running, client: httpx.Client) -> None:
    name = service.index.ids[5]
    file = service.index.picture(name)
    picture = Image.open(file).convert("RGB")
    query = {"text": "in black", "k": 9, "filter": "price < 100"}
    wanted = expected(service.index, image=(picture,), **query)
    form = client.post("/api/search", data=query, files={"image": file.read_bytes()})
    text = base64.b64encode(file.read_bytes()).decode()
    as_json = client.post("/api/search", json={**query, "image": text})
    as_url = client.post("/api/search", json={**query, "image": [f"data:image/jpeg;base64,{text}"]})
    assert form.json()["hits"] == as_json.json()["hits"] == as_url.json()["hits"] == wanted
    assert all(hit["price"] < 100 for hit in wanted)


def test_reference_searches_from_an_indexed_picture(service: Running, client: httpx.Client) -> None:
    name = service.index.ids[2]
    for text in ("", "in black"):
        hits = client.post("/api/search", json={"reference": name, "text": text}).json()["hits"]
        assert hits == expected(service.index, reference=(name,), text=text)
        assert len(hits) == 10


@pytest.mark.parametrize("weight", ["", "0.0", "0.25", "1"])
def test_weight_of_a_form_counts(service: Running, client: httpx.Client, weight: str) -> None:
    """An empty field of a form is a field that was left out."""
    name = service.index.ids[2]
    form = {"reference": name, "text": "in black", "weight": weight}
    hits = client.post("/api/search", files={key: (None, value) for key, value in form.items()})
    number = float(weight) if weight else None
    assert hits.json()["hits"] == expected(
        service.index, reference=(name,), text="in black", weight=number
    )


JPEG = png(form="JPEG")
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"json": {}}, 422, "nothing to search for"),
    ({"json": {"text": "  "}}, 422, "nothing to search for"),
    ({"json": {"text": "x", "k": 0}}, 422, "k cannot be 0"),
    ({"json": {"text": "x", "k": 201}}, 422, "accepted: 1 to 200"),
    ({"json": {"text": "x", "k": "many"}}, 422, "k cannot be 'many'"),
    ({"json": {"text": "x", "path": "/etc/passwd"}}, 422, "'path' is no field; accepted: image"),
    ({"json": {"text": ["x"]}}, 422, "text cannot be ['x']"),
    ({"json": {"text": "x" * 1001}}, 422, "up to 1000 characters"),
    ({"json": {"text": "x", "weight": 1.5}}, 422, "weight cannot be 1.5"),
    ({"json": {"text": "x", "reference": "../../etc/passwd"}}, 400, "unknown picture"),
    ({"json": {"text": "x", "filter": "price <"}}, 400, "accepted"),
    ({"json": ["text"]}, 422, "no JSON object"),
    ({"json": {"image": "!!"}}, 422, "no base64"),
    ({"json": {"image": 3}}, 422, "image"),
    ({"json": {"image": "/etc/passwd/"}}, 415, "not an image"),
    ({"json": {"image": "data:image/png;base64"}}, 422, "data URL"),
    ({"json": {"reference": [f"{n}" for n in range(9)]}}, 422, "too many pictures"),
    (
        {"content": b'{"text": "\\ud800"}', "headers": {"content-type": "application/json"}},
        422,
        "surrogate",
    ),
    (
        {"content": b'{"text": ', "headers": {"content-type": "application/json"}},
        400,
        "not valid JSON",
    ),
    (
        {"content": b"[" * 9000, "headers": {"content-type": "application/json"}},
        400,
        "nested too deeply",
    ),
    ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "not UTF-8"),
    ({"content": b"text=x", "headers": {"content-type": "text/plain"}}, 415, "accepted: multipart"),
    ({"content": b"x"}, 415, "Content-Type cannot be ''"),
    ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    (
        {"content": b"--a\r\nx", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        422,
        "nothing",
    ),
    ({"files": {"image": b"GIF89a"}}, 415, "the uploaded picture"),
    ({"files": {"image": ("a.svg", b"<svg onload='alert(1)'/>", "image/svg+xml")}}, 415, "PNG"),
    ({"files": {"image": ("a.png", b"", "image/png")}}, 415, "empty (0 bytes)"),
    ({"files": {"image": JPEG[: len(JPEG) // 2]}}, 415, "cannot be decoded"),
    ({"files": {"image": png(form="TIFF")}}, 415, "accepted: JPEG"),
    ({"files": {"image": png((6000, 5000))}}, 415, "25,000,000 pixels"),
    ({"files": {"image": b"x" * (10 * 2**20 + 1)}}, 413, "up to 10 MiB"),
    ({"files": [("image", JPEG)] * 5}, 400, "Too many files"),
    ({"files": {"picture": JPEG}}, 422, "accepted: a file as 'image'"),
    ({"files": {"text": (None, "x"), "image": (None, "/etc/passwd")}}, 422, "image is no text"),
    ({"files": [("text", (None, "x")), ("text", (None, "y"))]}, 422, "twice"),
]


@pytest.mark.parametrize(("request_", "status", "fragment"), REFUSED)
def test_bad_searches_end_in_one_message(
    client: httpx.Client, request_: dict[str, Any], status: int, fragment: str
) -> None:
    answer = client.post("/api/search", **request_)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert fragment in answer.json()["error"]


def test_a_body_that_never_ends_is_refused(index: Any) -> None:
    """Neither a length that is a lie nor a stream without one fills the memory."""

    def endless() -> Any:
        while True:
            yield b"x" * 65536

    with serving(index, limits=Limits(upload_bytes=1000, pictures=1)) as running:
        headers = {"content-type": "multipart/form-data; boundary=a"}
        try:
            answer = httpx.post(f"{running.address}api/search", content=endless(), headers=headers)
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # the connection was closed while we still wrote
        with socket.create_connection(("127.0.0.1", running.port), 10) as link:
            head = "POST /api/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            link.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            assert b" 413 " in link.recv(4096).splitlines()[0]


def test_a_slow_body_is_given_up(index: Any) -> None:
    """A client that sends a byte a minute would hold a connection for ever."""
    with (
        serving(index, limits=Limits(body_seconds=0.3)) as running,
        socket.create_connection(("127.0.0.1", running.port), 10) as link,
    ):
        head = "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        link.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in link.recv(4096).splitlines()[0]


@pytest.mark.parametrize(
    "path", ["/", "/style.css", "/filters.js", "/page.js", "/docs", "/health", "/nothing"]
)
def test_every_answer_binds_the_browser(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/style.css", "/filters.js", "/page.js", "/docs"])
def test_page_loads_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    """A font or a script of another server would tell it who searches."""
    text = client.get(path).text.replace("http://127.0.0.1:8000/", "")
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"[\"'(=]//", text)
    assert "innerHTML" not in text


def test_reference_names_every_endpoint(client: httpx.Client) -> None:
    text = client.get("/docs").text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/health", "/api/search", "/api/pictures/{id}", "/api/index"} <= set(paths)
    assert all(path in text for path in paths)
    assert "<code>weight</code>" in text
    assert "number from 0 to 1" in text


def test_description_has_fields_and_examples(service: Running, client: httpx.Client) -> None:
    content = client.get("/api/index").json()
    assert content["summary"]["pictures"] == 120
    assert [field["name"] for field in content["fields"]] == list(service.index.fields)
    assert content["weight"] is True
    assert len(content["examples"]) == 12
    assert set(content["examples"]) <= set(service.index.ids)


def test_pictures_are_files_or_thumbnails(service: Running, client: httpx.Client) -> None:
    name = service.index.ids[1]
    whole = client.get(f"/api/pictures/{name}")
    assert whole.content == service.index.picture(name).read_bytes()
    assert whole.headers["content-type"] == "image/jpeg"
    again = client.get(f"/api/pictures/{name}", headers={"if-none-match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    small = client.get(f"/api/pictures/{name}?side=160")
    with Image.open(BytesIO(small.content)) as image:
        assert image.format == "JPEG"
        assert max(image.size) == 48  # smaller pictures are not blown up
    assert client.get(f"/api/pictures/{name}?side=161").status_code == 422


@pytest.mark.parametrize(
    "name", ["nothing", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "%00", "a%ff", "x" * 5000]
)
def test_no_path_of_a_client_is_opened(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/api/pictures/{name}")
    assert answer.status_code == 404
    assert len(answer.json()["error"]) < 1000


def test_a_picture_that_has_gone_is_a_message(tmp_path: Path, index: Any) -> None:
    from cir_plugins.service.pictures import GoneError, Pictures, Side

    file = tmp_path / "a.jpg"
    pictures = Pictures(lambda name: file)
    for content in (None, b"", b"no picture", JPEG[:50]):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(GoneError, match="'a' has gone or is damaged"):
            pictures.picture("a", Side.HIT)
    file.write_bytes(JPEG)
    first = pictures.picture("a", Side.HIT)
    assert pictures.picture("a", Side.HIT) is first  # kept
    file.write_bytes(png((9, 9)))
    assert pictures.picture("a", Side.HIT).tag != first.tag
    file.write_bytes(png(form="TIFF"))
    shown = pictures.picture("a")
    assert shown.media_type == "image/png"
    assert shown.tag == hashlib.sha256(shown.content).hexdigest()[:32]
