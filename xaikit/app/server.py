"""The page in NiceGUI: sends sections as they change, takes what is chosen, serves thumbnails, uploads and downloads.

tab opens -> a session -> ten times a second the sections that changed -> page.js draws them
page.js   -> {choose | cancel | again | display | labels} -> the session; what it refuses comes back as one line
"""

import asyncio
import json
import math
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from fastapi import FastAPI
from nicegui import Client, ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from xaikit.app.export import asset
from xaikit.app.pictures import MOST_BYTES, Shelf, thumbnail, without_folders
from xaikit.app.session import Session
from xaikit.app.take_away import taken
from xaikit.app.view import COLOUR_MAPS, Display, labels, view
from xaikit.foundation.errors import BadInput, XaikitError

_PAUSE = 0.1  # seconds between two looks at what changed
_HISTORY = 50  # messages that a browser which lost its connection can catch up with
_CHOICES = frozenset({"picture", "models", "target", "against", "layer", "methods", "mask", "fill", "seed"})


class Tab:
    """One open page: its session, how it is drawn, and what of it the browser has.

    Args:
        address: names the tab in addresses of uploads and downloads.
        client: NiceGUI's side of the browser.
        session: the session.
    """

    def __init__(self, address: str, client: Client, session: Session) -> None:
        self.address, self.client, self.session = address, client, session
        self.display = Display()
        self._sent: dict[str, str] = {}
        self._shown: Any = None
        self._notices = 0

    async def push(self) -> None:
        """Send the sections that changed."""
        running = self.session.running
        now = (self.session.version, self.display, running and math.floor(running.done), len(self.session.shelf))
        if now == self._shown:
            return
        self._shown = now
        sections = await asyncio.to_thread(self._sections)
        changed = {name: text for name, text in sections.items() if self._sent.get(name) != text}
        gone = {name: "null" for name in self._sent if name not in sections}
        self._sent = sections
        if changed or gone:
            self._call("receive", changed | gone)

    def take(self, message: Any) -> None:
        """Do what the page asks; what cannot be done is told there in one line."""
        try:
            self._take(message)
        except (XaikitError, TypeError, ValueError, LookupError, AttributeError) as error:
            text = (
                without_folders(str(error)) if isinstance(error, XaikitError) else "this page sent what it cannot ask"
            )
            self.tell(text)

    def tell(self, text: str) -> None:
        """Show one line."""
        self._notices += 1
        self._call("receive", {"notice": json.dumps({"text": text, "number": self._notices})})

    def _take(self, message: Any) -> None:
        ((kind, content),) = message.items()
        if kind == "choose":
            if not content or content.keys() - _CHOICES:
                raise BadInput("choice: expected a control of the page, got another")
            self.session.choose(**{name: _plain(value) for name, value in content.items()})
        elif kind in ("cancel", "again"):
            getattr(self.session, kind)(*map(str, content))
        elif kind == "labels":
            self._call("labels", {}, json.dumps(content), json.dumps(labels(self.session, self._model(content))))
        elif kind == "display":
            self._draw(**content)
        else:
            raise BadInput("request: expected one of the page's, got another")

    def _draw(self, cmap: str | None = None, shared: bool | None = None, place: Any = None) -> None:
        display = self.display
        if cmap is not None:
            if cmap not in COLOUR_MAPS:
                raise BadInput("colours: expected those of the page, got others")
            display = replace(display, cmap=cmap)
        if shared is not None:
            display = replace(display, shared=bool(shared))
        if place is not None:
            across, down = (min(1.0, max(0.0, float(share))) for share in place)
            display = replace(display, place=(across, down))
        self.display = display

    def _model(self, place: int) -> str:
        return self.session.choice.models[place]

    def _sections(self) -> dict[str, str]:
        sections = view(self.session, self.display)
        return {name: json.dumps(content, allow_nan=False) for name, content in sections.items()}

    def _call(self, function: str, sections: dict[str, str], *arguments: str) -> None:
        content = ", ".join(f"{json.dumps(name)}: {text}" for name, text in sections.items())
        self.client.run_javascript(f"{function}({', '.join(arguments) if arguments else f'{{{content}}}'})")


def _plain(value: Any) -> Any:
    """Return a value of the page as `Choice` has it."""
    return tuple(map(str, value)) if isinstance(value, list) else value


class Site:
    """The page, its addresses and its event loop; once a process, as NiceGUI is, and used by one run at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="xaikit app server", daemon=True).start()
        self._tabs: dict[str, Tab] = {}
        self._open: Callable[[], Session] | None = None
        self._shelf: Shelf | None = None
        self.server = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self.server.get("/thumbnail/{picture}")(self._thumbnail)
        self.server.get("/take/{address}/{kind}")(self._take_away)
        self.server.post("/upload/{address}")(self._upload)
        self.server.exception_handler(XaikitError)(_refused)
        ui.run_with(
            self.server,
            root=self._page,
            title="xaikit",
            dark=None,
            language="en-US",
            binding_refresh_interval=None,
            reconnect_timeout=10.0,
            message_history_length=_HISTORY,
            tailwind=False,
            show_welcome_message=False,
        )

    @contextmanager
    def of(self, open_session: Callable[[], Session], shelf: Shelf) -> Iterator[FastAPI]:
        """Give the site its content in a block, and yield the application to serve.

        Args:
            open_session: makes the session of a new tab.
            shelf: the pictures.

        Raises:
            BadInput: the process serves a page already.
        """
        if self._open is not None:
            raise BadInput("app: expected one page at a time in a process, got a second; end the first one")
        self._open, self._shelf = open_session, shelf
        try:
            yield self.server
        finally:
            self._open = self._shelf = None
            for address in list(self._tabs):
                self._close(address)

    def _page(self) -> None:
        address, client = secrets.token_urlsafe(12), ui.context.client
        ui.add_head_html(f"<style>{asset('page.css')}</style>")
        ui.add_body_html(f"<script>{asset('threshold.js')}{asset('page.js')}</script>")
        ui.html(asset("page.html"), sanitize=False)

        def take(event: GenericEventArguments) -> None:
            if address not in self._tabs and self._open is not None:
                self._tabs[address] = Tab(address, client, self._open())
            if event.args != {"begin": True}:
                self._tabs[address].take(event.args)

        async def push() -> None:
            if address in self._tabs:
                await self._tabs[address].push()

        async def begin() -> None:
            await client.connected()
            client.run_javascript(f"begin({json.dumps(address)})")

        ui.on("xaikit", take)
        ui.timer(_PAUSE, push)
        ui.timer(0.0, begin, once=True)
        client.on_delete(lambda: self._close(address))

    def _close(self, address: str) -> None:
        if address in self._tabs:
            self._tabs.pop(address).session.close()

    def _tab(self, address: str) -> Tab:
        if address not in self._tabs:
            raise BadInput("tab: expected an open page, got one that is closed; load it again")
        return self._tabs[address]

    def _content(self) -> Shelf:
        if self._shelf is None:
            raise BadInput("app: expected a page that is served, got one that has ended; start it again")
        return self._shelf

    def _thumbnail(self, picture: str) -> Response:
        return Response(thumbnail(self._content().get(picture)), media_type="image/jpeg")

    def _take_away(self, address: str, kind: str) -> Response:
        tab = self._tab(address)
        name, type_, content = taken(tab.session, tab.display, kind)
        return Response(content, media_type=type_, headers={"content-disposition": f'attachment; filename="{name}"'})

    async def _upload(self, address: str, name: str, request: Request) -> Response:
        tab, content = self._tab(address), bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MOST_BYTES:
                break
        picture = await asyncio.to_thread(self._content().add, name, bytes(content))
        tab.session.choose(picture=picture.id)
        return JSONResponse({"text": ""})


@cache
def site() -> Site:
    """Return the site of this process."""
    return Site()


async def _refused(request: Request, error: Exception) -> Response:
    text = without_folders(str(error))
    if request.method == "POST":  # a status of its own would be an error in the browser's console
        return JSONResponse({"text": text})
    return PlainTextResponse(f"{text}\n", 400)
