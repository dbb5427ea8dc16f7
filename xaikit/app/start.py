"""Starts the local page, for the command line and for Python.

xaikit.app(clf, "photos")        serves the page until Ctrl-C
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xaikit.app.cache import Cache
from xaikit.app.export import exported, pictures_of
from xaikit.app.facts import CONTROLS
from xaikit.app.models import Models, Offer, of_classifiers
from xaikit.app.pictures import Shelf, drawn_pictures, temporary
from xaikit.app.session import Choice, Session
from xaikit.app.view import Display
from xaikit.foundation.errors import BadInput, MissingExtra
from xaikit.foundation.files import write_text
from xaikit.images.folders import walk
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.runs.telling import tell

METHODS_FIRST = ("grad-cam", "libra-cam")
"""Methods that are shown first."""

_MOST_EXPORTED = 24


def app(
    classifier: Classifier | Sequence[Classifier],
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    methods: Sequence[str] = METHODS_FIRST,
    host: str = "127.0.0.1",
    port: int = 8000,
    browser: bool = True,
    export: str | Path | None = None,
    notice: Callable[[str], None] = tell,
) -> None:
    """Show explanations of pictures in a browser, until it is interrupted.

    The page shows several methods beside two controls, hides the lowest pixels of each map, and hands out the code that
    makes what is seen. Nothing leaves the machine.

    Args:
        classifier: the model, or several that can be compared.
        data: pictures, and folders of them; None draws some, and others can be dropped into the page.
        methods: names of the methods that are shown first.
        host: address to bind; any but this machine's own lets others in, and is warned of.
        port: port; a later one is taken if it is in use.
        browser: whether to open the page.
        export: file to write in place of serving: a page that needs no server.
        notice: called with one line for the address, and for warnings.

    Raises:
        MissingExtra: NiceGUI is not installed; an export does not need it.
        BadInput: an argument is invalid, or there is no picture.
    """
    several = [classifier] if isinstance(classifier, Classifier) else classifier
    if not isinstance(several, list | tuple) or not several:
        check_classifier(classifier)
    for one in several:
        check_classifier(one)
    run(
        of_classifiers(several),
        data,
        methods=methods,
        host=host,
        port=port,
        browser=browser,
        export=export,
        notice=notice,
    )


def run(
    offers: Sequence[Offer],
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    methods: Sequence[str],
    host: str,
    port: int,
    browser: bool,
    export: str | Path | None,
    notice: Callable[[str], None],
) -> None:
    """Serve or export the page for some networks; arguments and errors as in `app`."""
    names = tuple(dict.fromkeys(METHODS.get(name).name for name in methods))
    first = tuple(name for name in names if name not in CONTROLS)
    models = Models(offers)
    if export is None:
        _check_server(host, port)
    with temporary() as folder:
        root = Path(folder)
        for name in ("uploads", "cache", "drawn"):
            (root / name).mkdir()
        roots = [data] if isinstance(data, str | Path) else data
        shelf = Shelf(walk(roots) if roots else drawn_pictures(root / "drawn"), root / "uploads")
        cache = Cache(root / "cache")

        def opened() -> Session:
            return Session(models, shelf, cache, Choice(shelf.pictures()[0].id, (models.names[0],), methods=first))

        if export is not None:
            _export(opened(), shelf, Path(export), notice)
        else:
            _serve(opened, shelf, host, port, browser, notice)


def _export(session: Session, shelf: Shelf, file: Path, notice: Callable[[str], None]) -> None:
    pictures = [picture.id for picture in shelf.pictures()][:_MOST_EXPORTED]
    if len(shelf) > len(pictures):
        notice(f"the first {len(pictures)} of {len(shelf)} pictures are exported")
    try:
        write_text(file, exported(pictures_of(session, pictures, Display())))
    finally:
        session.close()
        session.join()


def _serve(
    opened: Callable[[], Session], shelf: Shelf, host: str, port: int, browser: bool, notice: Callable[[str], None]
) -> None:
    if not _is_local(host):
        notice(
            f"{host} lets other machines in: whoever has the address below sees your pictures and runs your networks"
        )
    with suppress(KeyboardInterrupt), serving(opened, shelf, host, port) as (address, end):
        notice(f"the page is at {address} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        end.result()


@contextmanager
def serving(
    opened: Callable[[], Session], shelf: Shelf, host: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[str, Future[None]]]:
    """Serve the page in a block, and yield its address, with the token, and the end of the server.

    Args:
        opened: makes the session of a new tab.
        shelf: the pictures.
        host: address to bind.
        port: port, or the next that is free; 0 is any.

    Raises:
        BadInput: no port is free, or this process serves a page already.
    """
    import uvicorn

    from xaikit.app.guard import Guard, new_token
    from xaikit.app.server import site

    listening = _listening(host, port)
    port, token = listening.getsockname()[1], new_token()
    with closing(listening), site().of(opened, shelf) as content:
        guard: Any = Guard(content, token, host, port)
        config = uvicorn.Config(guard, log_level="error", server_header=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        future = asyncio.run_coroutine_threadsafe(server.serve([listening]), site().loop)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104 - only compared
        try:
            yield f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}", future
        finally:
            server.should_exit = True
            future.result(10)


def _check_server(host: str, port: int) -> None:
    if find_spec("nicegui") is None:
        raise MissingExtra("nicegui", "app")
    if not host or not isinstance(port, int) or not 0 <= port < 65536:
        raise BadInput(f"host, port: expected an address and a port up to 65535, got {host!r} and {port!r}")


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to the port, or to one of the next ten if it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for candidate in range(port, min(port + 10, 65536)) if port else [0]:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, candidate))
        except OSError as error:
            bound.close()
            last = error
        else:
            return bound
    raise BadInput(f"port: {port} and the next are in use or not allowed ({last}); give another with --port") from last
