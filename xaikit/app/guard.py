"""Who may talk to the server: whoever has the token, from this server's own page, under the name it was started with.

?token=...        sets a cookie of this port, as the address that is printed does; everything else needs the cookie
Host              one of the names of the machine, so that a foreign name that leads here is refused
Origin            if there is one, the server itself, for WebSockets as well
responses         a policy by which the browser loads nothing from elsewhere
"""

import hmac
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "::1")

_PATHS = re.compile(r"/|/favicon\.ico|/(_nicegui|_nicegui_ws|thumbnail|take|upload)/.*")
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(24)


class Guard:
    """The outermost layer of the server.

    Args:
        app: what it guards.
        token: the token.
        host: the address the server is bound to.
        port: its port.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token, f"xaikit-{port}"
        self.any_host = host not in LOCAL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it may, with the policy in the response; refuse it in one line otherwise."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self.any_host and urlsplit(f"//{host}").hostname not in LOCAL:
            return PlainTextResponse("xaikit: open the address that the terminal shows\n", 403)
        if "origin" in headers and urlsplit(headers["origin"]).netloc != host:
            return PlainTextResponse("xaikit: another page may not talk to this one\n", 403)
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if asked and hmac.compare_digest(asked.encode(), self.token.encode()):
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return answer
        if not hmac.compare_digest(_cookie(headers.get("cookie", ""), self.cookie).encode(), self.token.encode()):
            return PlainTextResponse("xaikit: expected the token; open the address that the terminal shows\n", 403)
        if not _PATHS.fullmatch(scope["path"]):
            return PlainTextResponse("xaikit: there is no such page\n", 404)
        return None


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return sent
