"""Who may talk to the viewer: only the browser that was given the address, and only from its own page.

The server listens on 127.0.0.1, but other users of the computer, and web pages open in the same browser,
can reach that too. So every request needs a secret (a cookie, set by the first visit to an address that was
printed, which lets in once), a Host header that names this computer (against DNS rebinding), and, where the
browser says where it comes from, our own page (against cross-site requests).

An address can be seen by others too: on a screen, in a log, in a browser's history, and, where a program is
started with it, by every user of the computer (``ps``). So it holds a code that is used up by the first
visit, and a browser is started with the name of a file only its user can read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
LARGEST_BODY = 1 << 18
UPLOAD = "/api/upload"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# The cookie is sent along only when our own page asks for the next one.
_WELCOME = (
    '<!doctype html><meta http-equiv="refresh" content="0;url=./"><link rel="icon" href="data:,">'
    "<title>OccuPy</title>"
)
_NO_TOKEN = (
    "open the address that `occupy view` printed, with its token. It lets one browser in, once: for another "
    "address, press Enter in the terminal where `occupy view` runs, or start it again"
)
_REFUSAL = (
    '<!doctype html><meta charset="utf-8">{}<link rel="icon" href="data:,"><title>OccuPy</title>'
    f"<h1>This browser is not let in</h1><p>Please {_NO_TOKEN}.</p>"
)
# By a link on another page a browser brings no cookie, even if it has one: our own page asks once more.
_ONCE_MORE = '<meta http-equiv="refresh" content="0;url=./">'


class RefusedError(Exception):
    """A request that is not answered: HTTP status and one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _UnknownError(RefusedError):
    """A browser without the cookie, perhaps with a token that does not let in."""

    def __init__(self, reason: str, *, gave_token: bool = False) -> None:
        super().__init__(403, reason)
        self.gave_token = gave_token


def _host_of(header: str) -> str:
    """Return the host of a Host header without its port, in lower case."""
    name, colon, port = header.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else header.strip().lower()


class Gate:
    """Middleware that lets through only what comes from the viewer's own page.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    access : Access
        Who may come in.
    hosts : iterable of str
        Names by which this server may be called besides those of this computer.
    """

    def __init__(self, app: ASGIApp, access: Access, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._access = access
        self._hosts = {*LOCAL_HOSTS, *(host.lower() for host in hosts)}
        # Cookies are shared by all ports of a host: each server has a name of its own.
        self.cookie = "occupy_" + hashlib.sha256(access.secret.encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            if self._check(scope, headers):
                await self._welcome(send)
                return
            # The largest file is the viewer's to say.
            body = receive if scope["path"] == UPLOAD else _limited(receive)
            await self._app(scope, body, _with_headers(send))
        except RefusedError as refused:
            if isinstance(refused, _UnknownError) and "text/html" in headers.get("accept", ""):
                page = _REFUSAL.format(_ONCE_MORE if refused.gave_token else "")
                await _answer(send, 403, page, "text/html; charset=utf-8")
                return
            await _answer(send, refused.status, json.dumps({"error": str(refused)}), "application/json")

    def _check(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Raise RefusedError, or tell whether this is the first visit with the token in the address."""
        if _host_of(headers.get("host", "")) not in self._hosts:
            raise RefusedError(403, "this server answers only to the name of its own computer")
        at_door = scope["method"] == "GET" and scope["path"].rstrip("/") == scope.get("root_path", "")
        _check_site(headers, at_door)
        known = _same(_cookie(headers.get("cookie", ""), self.cookie), self._access.secret)
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if at_door and given:
            # A browser that is in already may come by its old address; it uses up nothing.
            if not known and not self._access.use(given[0]):
                raise _UnknownError(f"this token is wrong or used up; {_NO_TOKEN}", gave_token=True)
            return True
        if not known:
            raise _UnknownError(_NO_TOKEN)
        if scope["method"] not in ("GET", "HEAD"):
            _check_body(headers, file=scope["path"] == UPLOAD)
        return False

    async def _welcome(self, send: Send) -> None:
        cookie = f"{self.cookie}={self._access.secret}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 200, _WELCOME, "text/html; charset=utf-8", {"set-cookie": cookie})


def _cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _check_site(headers: dict[str, str], at_door: bool) -> None:
    site = headers.get("sec-fetch-site", "none")
    # A click on the printed address may come from a terminal that is a web page itself.
    clicked = at_door and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("none", "same-origin") and not clicked:
        raise RefusedError(403, "requests from other web pages are refused")
    origin = headers.get("origin")
    if origin is not None and _host_in(origin) != headers.get("host", "").lower():
        raise RefusedError(403, "requests from other web pages are refused")


def _host_in(origin: str) -> str | None:
    """Return host and port of an Origin header, None where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _check_body(headers: dict[str, str], *, file: bool) -> None:
    # Neither type can be sent by a form of another page.
    kind = "application/octet-stream" if file else "application/json"
    if headers.get("content-type", "").split(";")[0].strip().lower() != kind:
        raise RefusedError(415, f"the body must be {kind} (content-type)")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise RefusedError(400, "the content-length is not a number")
    if int(length) > LARGEST_BODY and not file:
        raise RefusedError(413, f"the body is larger than {LARGEST_BODY} bytes")


def _limited(receive: Receive) -> Receive:
    """Return ``receive`` that refuses a body which is longer than it may be, whatever its header said."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > LARGEST_BODY:
            raise RefusedError(413, f"the body is larger than {LARGEST_BODY} bytes")
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {key.lower() for key, _ in message["headers"]}
            added = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return guarded


async def _answer(
    send: Send, status: int, text: str, kind: str, headers: dict[str, Any] | None = None
) -> None:
    body = text.encode()
    fields = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
    start = {"type": "http.response.start", "status": status}
    pairs = [(k.encode(), v.encode()) for k, v in fields.items()]
    await _with_headers(send)({**start, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class Access:
    """Who may come in.

    Parameters
    ----------
    code : str, optional
        A first code that lets in once; made by `new_code` otherwise.

    Attributes
    ----------
    secret : str
        What the browser's cookie holds.
    """

    def __init__(self, code: str | None = None) -> None:
        self.secret = secrets.token_urlsafe(24)
        self._codes = [] if code is None else [code]
        self._lock = threading.Lock()

    def new_code(self) -> str:
        """Return a code that lets one browser in, once."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            # More than 20 that were not used are only made by somebody leaning on the Enter key.
            self._codes = [*self._codes, code][-20:]
        return code

    def use(self, given: str) -> bool:
        """Tell whether a code lets in; from then on it does not."""
        with self._lock:
            found = [code for code in self._codes if _same(given, code)]
            self._codes = [code for code in self._codes if code not in found]
        return bool(found)


def _same(given: str, secret: str) -> bool:
    """Compare in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder only this user can look into, in the system's place for such where it has one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        try:
            found = Path(runtime).stat()
            # As the XDG specification asks of it; anything else may be somebody else's.
            if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700:
                return tempfile.TemporaryDirectory(prefix="occupy-view-", dir=runtime)
        except (OSError, AttributeError):
            pass
    return tempfile.TemporaryDirectory(prefix="occupy-view-")


def write_door(folder: Path, address: str) -> Path:
    """Write a page that leads to an address, readable by this user only."""
    path = folder / "occupy.html"
    page = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={address}"><title>OccuPy</title>'
    )
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(page)
    return path
