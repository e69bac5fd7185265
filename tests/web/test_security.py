"""Who is refused: everybody but the page that was opened with the token. None with a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from occupy.errors import InputError

pytest.importorskip("starlette")
from occupy.web.app import ACTS, LOOKS
from occupy.web.shelf import Shelf
from occupy.web.viewer import Viewer

STATE = "/api/state"


def error_of(answer: Any) -> str:
    """Return the one line of a refusal."""
    text = json.loads(answer.body)["error"]
    assert "Traceback" not in text
    assert "\n" not in text
    return text


def post(server: Any, name: str, said: object, **headers: str) -> Any:
    return server.ask(f"/api/{name}", "POST", json.dumps(said).encode(), **headers)


@pytest.fixture(autouse=True)
def _no_mistakes(caplog: pytest.LogCaptureFixture) -> Any:
    """No request may end in an unforeseen error."""
    caplog.set_level(logging.WARNING)
    yield
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info]


def test_the_page_and_its_files_are_served_to_who_has_the_cookie(server: Any) -> None:
    page = server.ask("/")
    assert page.status == 200
    assert b"<main" in page.body
    for path in ("/static/app.css", "/static/js/main.js", "/static/js/surface.js"):
        assert server.ask(path).status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", STATE, "/static/js/main.js", "/api/files?path=", "/nowhere"])
def test_no_token_no_answer(server: Any, path: str) -> None:
    answer = server.ask(path, cookie=False)
    assert answer.status == 403
    assert "token" in error_of(answer)


@pytest.mark.parametrize("token", ["wrong", "", "the-secre", "the-secret ", "thé-secret", "a" * 5000])
def test_wrong_tokens(server: Any, token: str) -> None:
    assert server.ask(f"/?token={quote(token)}", cookie=False).status == 403
    cookie = f"{server.cookie}={quote(token)}"
    assert server.ask(STATE, cookie=cookie).status == 403


def test_h06_a_token_lets_in_once_and_only_at_the_door(server: Any) -> None:
    token = server.access.new_code()
    # Neither asking for something else with it, nor looking without opening, uses it up.
    assert server.ask(f"{STATE}?token={token}", cookie=False).status == 403
    assert server.ask(f"/?token={token}", "HEAD", cookie=False).status == 403
    answer = server.ask(f"/?token={token}", cookie=False)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{server.cookie}={server.access.secret};")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token not in cookie + answer.body.decode()
    assert server.access.secret.encode() not in answer.body
    # Somebody else who has seen the address comes too late, and the token is not the cookie.
    second = server.ask(f"/?token={token}", cookie=False)
    assert second.status == 403
    assert "used up" in error_of(second)
    assert server.ask(STATE, cookie=f"{server.cookie}={token}").status == 403
    # The browser that is in may come by its old address.
    assert server.ask(f"/?token={token}").status == 200


def test_h06_who_is_not_let_in_reads_what_to_do(server: Any) -> None:
    for path in ("/", "/?token=used-up"):
        page = server.ask(path, cookie=False, accept="text/html,*/*")
        assert page.status == 403
        assert page.headers["content-type"].startswith("text/html")
        assert b"press Enter in the terminal" in page.body
        # With a token, the page asks once more without it: a browser may have kept back its cookie.
        assert (b"http-equiv" in page.body) == ("token" in path)


def test_h06_many_addresses_are_not_kept_for_ever() -> None:
    from occupy.web.security import Access

    access = Access()
    codes = [access.new_code() for _ in range(1000)]
    assert not access.use(codes[0])
    assert [access.use(code) for code in codes[-3:]] == [True] * 3
    assert len(access._codes) < 100


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]", "127.0.0.2", "0"],
)
def test_foreign_host_headers(server: Any, host: str) -> None:
    answer = server.ask(STATE, host=host)
    assert answer.status in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1:9999", "LOCALHOST:1", "localhost", "[::1]:8642"])
def test_the_names_of_this_computer_at_any_port(server: Any, host: str) -> None:
    assert server.ask(STATE, host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://["},
    ],
)
def test_cross_site_requests(server: Any, headers: dict[str, str]) -> None:
    assert "other web pages" in error_of(server.ask(STATE, **headers))
    answer = post(server, "open", {"path": "blob.mrc"}, **headers)
    assert answer.status == 403


def test_a_click_on_the_address_in_another_page_works_but_only_that(server: Any) -> None:
    clicked = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    token = server.access.new_code()
    assert server.ask(f"/?token={token}", cookie=False, sec_fetch_site="cross-site").status == 403
    assert server.ask(f"/?token={token}", cookie=False, **clicked).status == 200


def test_what_changes_something_needs_post_and_json(server: Any) -> None:
    assert server.ask("/api/open?path=blob.mrc").status == 405
    assert server.ask("/api/state", "POST", b"{}").status == 405
    plain = server.ask("/api/open", "POST", b'{"path": "blob.mrc"}', content_type="text/plain")
    assert plain.status == 415
    form = server.ask("/api/open", "POST", b"path=blob.mrc", content_type="application/x-www-form-urlencoded")
    assert form.status == 415


@pytest.mark.parametrize(
    "path",
    [
        "../outside.mrc",
        "/etc/passwd",
        "way_out/outside.mrc",
        "link.mrc",
        "way_out",
        "classes/../../outside.mrc",
        "..",
        "/",
        "\x00",
        "a" * 5000,
        "~",
        "//etc/passwd",
        "",
        ".\x00.",
        "loop.mrc",
    ],
)
def test_paths_outside_and_links_that_lead_out(server: Any, path: str) -> None:
    answers = [post(server, "open", {"path": path}), server.ask(f"/api/trace?path={quote(path)}")]
    if path:
        answers.append(server.ask(f"/api/files?path={quote(path)}"))
    for answer in answers:
        assert answer.status == 400
        error_of(answer)


def test_l10_an_origin_that_is_no_address_is_refused() -> None:
    from occupy.web.security import RefusedError, _check_site

    for origin in ("http://[", "http://]", "://", "", "http://[::1", "\x00"):
        with pytest.raises(RefusedError):
            _check_site({"origin": origin, "host": "127.0.0.1:1"}, False)


@pytest.mark.parametrize("path", ["\ud800", "a/\udfff.mrc", "\udc80\ud800"])
def test_l11_half_a_surrogate_pair_is_no_path(server: Any, shelf_folder: Path, path: str) -> None:
    with pytest.raises(InputError, match="not the name"):
        Shelf.of(shelf_folder).find("\ud800")
    for name in ("open", "fetch", "trace"):
        said = {"path": path, "entry": path, "layers": [path], "id": path}
        answer = post(server, name, said)
        assert answer.status in (400, 405)
        assert json.loads(answer.body)["error"]


def test_l11_names_that_are_not_utf8_are_listed_and_found(server: Any, shelf_folder: Path) -> None:
    odd = shelf_folder / "odd"
    odd.mkdir(exist_ok=True)
    name = b"caf\xe9.mrc"
    try:
        (odd / os.fsdecode(name)).write_bytes(b"no map")
    except OSError:
        pytest.skip("this file system holds UTF-8 only")
    listed = json.loads(server.ask("/api/files?path=odd").body)["entries"]
    assert [os.fsencode(entry["name"]) for entry in listed] == [name]
    assert post(server, "open", {"path": listed[0]["path"]}).status == 200


def odd_requests(count: int, seed: int) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Yield method, address, headers and body: ours, with pieces put where they do not belong."""
    rng = random.Random(seed)
    pieces = ["", "\x00", "\ud800", "http://[", "[::1", "%", "%ff%fe", "..", "/" * 9, "a" * 3000, "1e999"]
    pieces += [
        "-1",
        "NaN",
        "é",
        "\U0001f9ec",
        "\r\n",
        "{}",
        "[[",
        "null",
        "blob.mrc",
        "1",
        "scale",
        '"',
        ";",
        "=&",
    ]
    values: list[Any] = [*pieces, None, True, 0, -1, 2**70, 1.5, [], {}, [[]], ["x"], {"a": None}]
    keys = ["path", "id", "settings", "layers", "level", "axis", "index", "job", "kind", "options", "layer"]
    keys += ["entry", "neighbours", "voxel_size", "colours", "quality", "source", "z", "y", "x", "dust"]
    actions = [*LOOKS, *ACTS, "", "nothing", "\x7f", "..%2f"]
    names = [
        "origin",
        "host",
        "cookie",
        "content-type",
        "content-length",
        "sec-fetch-site",
        "accept",
        "range",
    ]
    for _ in range(count):
        said = {rng.choice(keys): rng.choice(values) for _ in range(rng.randrange(5))}
        query = "&".join(f"{k}={quote(str(v).encode('utf-8', 'replace'))}" for k, v in said.items())
        headers = {rng.choice(names): rng.choice(pieces) for _ in range(rng.choice((0, 0, 0, 1, 2)))}
        body = json.dumps(said).encode()
        if rng.random() < 0.1:
            body = bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
        method = rng.choice(("GET", "GET", "POST", "POST", "HEAD", "PUT", "X"))
        path = rng.choice(("/api/", "/api/", "/api/", "/static/", "/")) + rng.choice(actions)
        yield method, f"{path}?{query}" if rng.random() < 0.6 else path, headers, body


@pytest.mark.parametrize("seed", range(3))
def test_no_request_makes_a_mistake(viewer: Any, shelf_folder: Path, finished: Any, seed: int) -> None:
    """Seeded nonsense, straight to the application: an answer below 500 each time, nothing in the log."""
    from occupy.web.app import application
    from occupy.web.security import Access

    (shelf_folder / "loop.mrc").unlink(missing_ok=True)
    (shelf_folder / "loop.mrc").symlink_to("loop.mrc")
    # Some of it is about a map that is open, as number 1.
    finished(viewer, viewer.open({"path": "blob.mrc"}))
    access = Access()
    gate: Any = application(viewer, access)

    async def ask(method: str, address: str, headers: dict[str, str], body: bytes) -> int:
        path, _, query = address.partition("?")
        cookie = f"{gate.cookie}={access.secret}"
        fields = {"host": "127.0.0.1", "cookie": cookie, "content-type": "application/json", **headers}
        raw = [(k.encode(), v.encode("utf-8", "replace")) for k, v in fields.items()]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"), "headers": raw, "root_path": "",
            "http_version": "1.1", "scheme": "http", "client": None, "server": None,
        }  # fmt: skip
        status: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        await gate(scope, receive, send)
        return status[0]

    async def everything() -> set[int]:
        return {await ask(*request) for request in odd_requests(1000, seed)}

    found = asyncio.run(everything())
    assert {200, 400, 403, 404, 405} <= found
    assert max(found) < 500


def test_links_that_lead_out_are_not_listed(server: Any) -> None:
    names = {entry["name"] for entry in json.loads(server.ask("/api/files?path=").body)["entries"]}
    assert names >= {"blob.mrc", "broken.mrc", "classes", "model.pdb"}
    assert not names & {"link.mrc", "way_out", "notes.txt"}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/js/../../../__init__.py",
        "/static//etc/passwd",
    ],
)
def test_static_files_stay_in_their_folder(server: Any, path: str) -> None:
    answer = server.ask(path)
    assert answer.status == 404
    assert b"import" not in answer.body


def test_oversized_bodies(server: Any) -> None:
    # Refused by its length, before any of it is read.
    assert raw(server, "POST /api/open", [f"content-length: {1 << 19}"]).startswith(b"HTTP/1.1 413")
    lied = raw(
        server,
        "POST /api/open",
        ["transfer-encoding: chunked"],
        b"80000\r\n" + b"a" * 0x80000 + b"\r\n0\r\n\r\n",
    )
    # The line may be cut before the answer is read, as there is more that nobody wants.
    assert lied.startswith(b"HTTP/1.1 413") or lied == b""


def raw(server: Any, request: str, headers: list[str], body: bytes = b"") -> bytes:
    """Send bytes as they are."""
    fields = [
        "host: 127.0.0.1",
        f"cookie: {server.cookie}={server.access.secret}",
        "content-type: application/json",
        "connection: close",
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        out = b""
        with suppress(ConnectionError):
            line.sendall("\r\n".join([f"{request} HTTP/1.1", *fields, *headers, "", ""]).encode() + body)
            while part := line.recv(65536):
                out += part
    return out


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 20000,
        b'{"path": NaN}',
        b'{"id": 1e999}',
        b'{"path": 3}',
        b'{"path": null}',
        b'{"path": ["blob.mrc"]}',
        b'{"path": "blob.mrc", "settings": []}',
        b'{"path": "blob.mrc", "settings": {"nonsense": 1}}',
        b'{"path": "blob.mrc", "settings": {"lowpass": "x"}}',
        b'{"path": "blob.mrc", "settings": {"lowpass": -1}}',
        b'{"path": "blob.mrc", "settings": {"naive": 1}}',
        b'{"path": "blob.mrc", "voxel_size": "2"}',
    ],
)
def test_malformed_bodies(server: Any, body: bytes) -> None:
    answer = server.ask("/api/open", "POST", body)
    assert answer.status == 400
    error_of(answer)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999"])
def test_lies_about_the_length(server: Any, length: str) -> None:
    answer = raw(server, "POST /api/open", [f"content-length: {length}"], b"{}")
    assert answer.split(b" ")[1] in (b"400", b"413")
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "query",
    [
        "describe",
        "describe?id=999",
        "describe?id=x",
        "describe?id=1e400",
        "job?job=77",
        "slices?id=1",
        "mesh?id=1&level=nan",
        "values?id=0&z=0&y=0&x=0",
        "trace?path=blob.mrc",
        "trace?path=notes.txt",
        "files?path=blob.mrc",
    ],
)
def test_questions_that_make_no_sense(server: Any, query: str) -> None:
    answer = server.ask(f"/api/{query}")
    assert answer.status == 400
    error_of(answer)


def test_unknown_addresses(server: Any) -> None:
    assert server.ask("/api/nothing").status == 404
    assert server.ask("/api/_add").status == 404
    assert server.ask("/api/close", "POST", b"{}").status == 404


def test_a_folder_of_another_kind_is_not_opened(server: Any, shelf_folder: Path) -> None:
    assert "choose a map" in error_of(post(server, "open", {"path": "."}))
    assert shelf_folder.is_dir()


def uploaded(server: Any, name: str, body: bytes, **headers: str) -> Any:
    headers = {"content_type": "application/octet-stream", **headers}
    return server.ask(f"/api/upload?name={quote(name)}", "POST", body, **headers)


def test_a_file_is_uploaded_where_the_user_started_and_over_nothing(server: Any, shelf_folder: Path) -> None:
    before = set(shelf_folder.iterdir())
    body = (shelf_folder / "blob.mrc").read_bytes()
    answer = uploaded(server, "sent map.mrc", body)
    try:
        assert (answer.status, json.loads(answer.body)["kind"]) == (200, "map")
        assert Path(json.loads(answer.body)["path"]) == shelf_folder / "sent map.mrc"
        assert (shelf_folder / "sent map.mrc").read_bytes() == body
        again = uploaded(server, "sent map.mrc", b"other")
        assert (again.status, "already" in error_of(again)) == (400, True)
        assert (shelf_folder / "sent map.mrc").read_bytes() == body
    finally:
        (shelf_folder / "sent map.mrc").unlink()
    for name in (
        "../out.mrc",
        "a" * 300 + ".mrc",
        "a/b.mrc",
        "a\\b.mrc",
        ".hidden.mrc",
        "notes.txt",
        "",
        "/tmp/x.mrc",
        "x\0.mrc",
    ):
        assert uploaded(server, name, b"x").status == 400, name
    assert set(shelf_folder.iterdir()) == before


def test_uploads_are_asked_for_by_our_own_page_only(server: Any, shelf_folder: Path) -> None:
    before = set(shelf_folder.iterdir())
    assert uploaded(server, "x.mrc", b"x", content_type="text/plain").status == 415
    assert uploaded(server, "x.mrc", b"x", cookie="").status == 403
    assert uploaded(server, "x.mrc", b"x", origin="http://evil.example").status == 403
    assert server.ask("/api/upload?name=x.mrc").status == 405
    assert set(shelf_folder.iterdir()) == before


def test_too_large_or_broken_uploads_leave_nothing(
    server: Any, shelf_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(shelf_folder.iterdir())
    monkeypatch.setattr(Viewer, "largest_upload", 1000)
    answer = uploaded(server, "large.mrc", b"x" * 1001)
    assert (answer.status, "larger than" in error_of(answer)) == (413, True)
    # A connection that ends before its file does.
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(
            f"POST /api/upload?name=cut.mrc HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Cookie: {server.cookie}={server.access.secret}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 900\r\n\r\nhalf".encode()
        )
        time.sleep(0.3)
    for _ in range(100):
        if set(shelf_folder.iterdir()) == before:
            break
        time.sleep(0.05)
    assert set(shelf_folder.iterdir()) == before
    assert uploaded(server, "small.mrc", b"x" * 1000).status == 200
    (shelf_folder / "small.mrc").unlink()
