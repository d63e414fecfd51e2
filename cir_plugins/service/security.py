"""Who may ask: host names, origins, the token, and headers that bind a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie

from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cir_plugins.errors import CIRError

COOKIE = "cir_session"
SHORTEST_TOKEN = 16
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# The page's own four files and the API, and nothing from anywhere else.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_OPEN_PATHS = frozenset({"/api/session"})


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str) -> None:
    """Refuse a host that others reach without a token, and a token that can be guessed.

    Raises:
        CIRError: With what is accepted.
    """
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise CIRError(
            f"--token has {len(token)} characters\naccepted: {SHORTEST_TOKEN} or more, ASCII, such "
            "as those of: python -c 'import secrets; print(secrets.token_hex(16))'"
        )
    if not token and not is_local(host):
        raise CIRError(
            f"--host {host} can be reached from other machines, and no token is set\n"
            "accepted: --token TOKEN or CIR_TOKEN beside it; or --host 127.0.0.1"
        )


class Access:
    """Whether a request brings the token, as a header or as the cookie of a session.

    Args:
        token: The token; empty where everybody may ask.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._session = hmac.new(self._token, b"cir session", hashlib.sha256).hexdigest()

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask."""
        return not self._token

    def is_token(self, text: str) -> bool:
        """Whether a text is the token; the time it takes tells nothing."""
        return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), self._token)

    @property
    def session(self) -> str:
        """Value of the cookie: made from the token, which it does not reveal."""
        return self._session

    def allows(self, headers: Headers) -> bool:
        """Whether a request may read or ask."""
        if self.is_open:
            return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(value.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        given = cookie.value if cookie else ""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._session.encode())


class Guard:
    """The application behind its checks; every response has the headers of ``HEADERS``.

    Args:
        app: The application.
        access: The token.
        names: Host names that requests may have, so that a page of another name whose address
            was turned to this machine reads nothing; empty for any.
    """

    def __init__(self, app: ASGIApp, access: Access, names: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except LocalProtocolError:
            return  # the server has itself refused the rest of the body, and closed the connection

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        if self._names and _host_name(headers.get("host", "")) not in self._names:
            names = ", ".join(sorted(self._names))
            return _error(421, f"this service answers for the host names {names} alone")
        if not path.startswith("/api/"):
            return None
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _error(403, "pages of other sites may not use this service")
        if path not in _OPEN_PATHS and not self._access.allows(headers):
            response = _error(401, "this service needs its token: Authorization: Bearer TOKEN")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        return None


def _host_name(host: str) -> str:
    """The name of a Host header, without its port."""
    name, bracket, _ = host.lower().partition("]")
    return f"{name}]" if bracket else host.lower().partition(":")[0]


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)
