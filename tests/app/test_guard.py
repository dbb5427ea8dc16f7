"""Only who has the token, from the page itself and under the machine's own name, reaches the server."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("starlette", reason="nicegui is not installed; see the extra app")

from xaikit.app.guard import Guard, new_token

TOKEN, HOST = "secret-token", "127.0.0.1:8000"
COOKIE = ("cookie", f"xaikit-8000={TOKEN}")


def asked(path="/", headers=(), query="", kind="http", host=HOST, bound="127.0.0.1"):
    """Send one request and return the status and headers of the answer; 200 if it was let through."""
    sent = []

    async def inner(scope, receive, send):
        await send({"type": f"{kind}.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": f"{kind}.request"}

    pairs = [("host", host), *headers]
    encoded = [(name.encode(), value.encode()) for name, value in pairs]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": encoded, "method": "GET"}
    asyncio.run(Guard(inner, TOKEN, bound, 8000)(scope, receive, send))
    first = sent[0]
    return first.get("status", first.get("code")), {
        name.decode(): value.decode() for name, value in first.get("headers", [])
    }


@pytest.mark.parametrize("path", ["/", "/thumbnail/1", "/take/1/png", "/upload/1", "/_nicegui/x.js", "/favicon.ico"])
def test_nothing_is_served_without_the_token(path):
    assert asked(path)[0] == 403
    assert asked(path, query="token=wrong")[0] == 403
    assert asked(path, [("cookie", "xaikit-8000=wrong")])[0] == 403
    assert asked(path, [("cookie", f"xaikit-9999={TOKEN}")])[0] == 403
    assert asked(path, [COOKIE])[0] == 200


def test_the_address_with_the_token_sets_a_cookie_and_hides_the_token():
    status, headers = asked(query=f"token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_other_names_and_other_pages_are_refused(kind):
    refused = 403 if kind == "http" else 4403
    for host in ("evil.example:8000", "127.0.0.1.evil.example", ""):
        assert asked("/_nicegui_ws/", [COOKIE], kind=kind, host=host)[0] == refused
    for origin in ("http://evil.example", "http://127.0.0.1:9999", "null"):
        assert asked("/_nicegui_ws/", [COOKIE, ("origin", origin)], kind=kind)[0] == refused
    assert asked("/_nicegui_ws/", [COOKIE, ("origin", f"http://{HOST}")], kind=kind)[0] == 200
    assert asked("/", [COOKIE], host="mine.example:8000", bound="192.0.2.7")[0] == 200


def test_other_paths_do_not_exist():
    for path in ("/docs", "/openapi.json", "/etc/passwd", "/../x", "//evil.example"):
        assert asked(path, [COOKIE])[0] == 404


def test_the_browser_is_told_to_load_nothing_from_elsewhere():
    policy = asked("/", [COOKIE])[1]["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert new_token() != new_token()
