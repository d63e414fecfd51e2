from __future__ import annotations

from typing import Any

import httpx
import pytest

from cir_plugins.errors import CIRError
from tests.service.conftest import Running, serving

pytest.importorskip("fastapi", reason="needs the extra: pip install 'cir-plugins[serve]'")
TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def guarded(index: Any) -> Any:
    with serving(index, token=TOKEN) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": "Bearer é".encode()},
        {"cookie": f"cir_session={TOKEN}"},
        {"cookie": "cir_session="},
        {"cookie": "\x7f=;;;"},
    ],
)
def test_without_the_token_nothing_is_read(
    guarded: Running, headers: dict[str, str | bytes]
) -> None:
    """The cookie is made from the token: the token itself is none."""
    with httpx.Client(base_url=guarded.address, headers=headers) as client:
        name = guarded.index.ids[0]
        for path in ("/api/index", f"/api/pictures/{name}", "/api/nothing"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert "token" in answer.json()["error"]
        assert client.post("/api/search", json={"text": "red"}).status_code == 401
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/").status_code == 200


def test_token_opens_as_header_and_as_session(guarded: Running) -> None:
    with httpx.Client(base_url=guarded.address) as client:
        header = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/index", headers=header).status_code == 200
        assert client.post("/api/session", content="another one").status_code == 401
        assert client.get("/api/index").status_code == 401
        answer = client.post("/api/session", content=TOKEN)
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/api/index").status_code == 200
        assert client.post("/api/search", json={"text": "red"}).status_code == 200


def test_other_host_names_are_refused(index: Any) -> None:
    """A page whose name is turned to 127.0.0.1 would read the whole index."""
    with serving(index, names={"localhost", "127.0.0.1", "[::1]"}) as running:
        for host, status in (
            ("evil.example", 421),
            (f"evil.example:{running.port}", 421),
            ("", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost", 200),
            (f"LOCALHOST:{running.port}", 200),
            ("[::1]:80", 200),
        ):
            answer = httpx.get(f"{running.address}api/index", headers={"host": host})
            assert answer.status_code == status, host


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_are_refused(service: Running, site: str) -> None:
    headers = {"sec-fetch-site": site}
    answer = httpx.post(f"{service.address}api/search", json={"text": "red"}, headers=headers)
    assert answer.status_code == 403
    assert httpx.get(service.address, headers=headers).status_code == 200  # a link to the page


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "shop.example", ""])
def test_other_hosts_need_a_token(host: str) -> None:
    from cir_plugins.service.security import check_exposure

    with pytest.raises(CIRError, match=r"no token is set\naccepted: --token"):
        check_exposure(host, "")
    check_exposure(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_this_machine_needs_none(host: str) -> None:
    from cir_plugins.service.security import check_exposure

    check_exposure(host, "")


@pytest.mark.parametrize("token", ["short", "x" * 15, "ä" * 20, "x" * 20 + "\n"])
def test_tokens_that_can_be_guessed_or_not_sent(token: str) -> None:
    from cir_plugins.service.security import check_exposure

    with pytest.raises(CIRError, match=r"accepted: 16 or more, ASCII"):
        check_exposure("127.0.0.1", token)
