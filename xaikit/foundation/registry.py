"""The registry: classes of one kind by name.

    @METHODS.register            adds a class under its `name`
    METHODS.get("grad-cam")      returns the class, or raises UnknownName with similar names
    METHODS.get("GradCAM")       the same: case, hyphens and ++ do not matter, and known aliases lead to one class
    METHODS.get("captum/lrp")    returns a guest, registered by the module `captum` of the guests' package

The first lookup imports every module of the home package and every entry point of the group, so no list of names is
maintained by hand. Guests depend on other packages: their modules are imported only for a name with a slash or for a
list of names with guests. Two classes with the same name are an error.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from xaikit.foundation.errors import BadInput, MissingExtra, UnknownName, XaikitError, XaikitWarning, near_names

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one kind by their `name`.

    Args:
        kind: word for one entry in messages, such as "method".
        home: package whose modules register classes, such as "xaikit.methods"; also the entry point group.
        guests: package whose modules register classes of other packages, as `package/name`.
        aliases: other names in use, such as "ig", each with the name that it stands for.
    """

    def __init__(
        self, kind: str, home: str, guests: str | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self.home = home
        self.guests = guests
        self.aliases = {_plain(alias): name for alias, name in (aliases or {}).items()}
        self._entries: dict[str, type[T]] = {}
        self._discovered = False
        self._lock = threading.RLock()

    def register(self, entry: type[T]) -> type[T]:
        """Register a class under its own `name` and return it; used as a decorator.

        Raises:
            BadInput: the class has no name, or another class has the same name.
        """
        name = getattr(entry, "name", None)
        if not isinstance(name, str) or not name:
            raise BadInput(f"{self.kind} {entry.__qualname__}: expected a class with a name, got none; set `name`")
        known = self._entries.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (entry.__module__, entry.__qualname__):
            raise BadInput(f"{self.kind} {name!r}: expected a new name, got one used in {known.__module__}; rename it")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> type[T]:
        """Return the class registered as `name`, or the one that it means when spelled in another way.

        Raises:
            BadInput: the name is not a string.
            UnknownName: no class has that name; the message suggests similar names.
            MissingExtra: the class is a guest whose package is not installed.
        """
        if not isinstance(name, str):
            raise BadInput(
                f"{self.kind}: expected a name, got {type(name).__name__}; `xaikit list {self.kind}s` shows them"
            )
        self._discover()
        if name not in self._entries and "/" in name:
            self._import_guests(name.partition("/")[0].lower().replace("-", "_"))
        if name in self._entries:
            return self._entries[name]
        plain = _plain(name)
        meant = self.aliases.get(plain) or next((known for known in self._entries if _plain(known) == plain), None)
        if meant is None:
            close = near_names(name, [*self._entries, *self.aliases])
            near = dict.fromkeys(self.aliases.get(_plain(known), known) for known in close)
            remedy = f"did you mean {' or '.join(near)}?" if near else ""
            raise UnknownName(self.kind, name, (), remedy or f"`xaikit list {self.kind}s` shows them")
        return self._entries[meant]

    def names(self, where: Callable[[type[T]], bool] = lambda entry: True, *, guests: bool = False) -> list[str]:
        """Return the sorted names of the classes for which `where` is true.

        Args:
            where: filter on classes.
            guests: whether to add the classes of other installed packages.
        """
        self._discover()
        if guests:
            for module in self._guest_modules():
                with suppress(MissingExtra):
                    self._import_guests(module)
        return sorted(name for name, entry in self._entries.items() if (guests or "/" not in name) and where(entry))

    def _guest_modules(self) -> list[str]:
        if self.guests is None:
            return []
        return [module.name for module in pkgutil.iter_modules(importlib.import_module(self.guests).__path__)]

    def _import_guests(self, module: str) -> None:
        """Import a module of the guests' package, which registers its classes, if there is one of that name."""
        if module in self._guest_modules():
            importlib.import_module(f"{self.guests}.{module}")

    def _discover(self) -> None:
        with self._lock, ExitStack() as undo:  # another thread waits until all modules are imported
            if self._discovered:  # or are being imported, by this thread
                return
            self._discovered = True
            undo.callback(setattr, self, "_discovered", False)
            home = importlib.import_module(self.home)
            for module in pkgutil.walk_packages(home.__path__, prefix=f"{self.home}."):
                importlib.import_module(module.name)
            undo.pop_all()
            for point in entry_points(group=self.home):
                self._load(point)

    def _load(self, point: EntryPoint) -> None:
        """Load an installed plug-in; one that fails, or ends the process, registers nothing and is left out."""
        before = dict(self._entries)
        try:
            point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the other commands must run
            self._entries = before
            warnings.warn(
                f"{self.kind}s of {point.value!r} are left out: the installed plug-in {point.name!r} cannot be loaded "
                f"({_told(error)})",
                XaikitWarning,
                stacklevel=5,
            )


def load_plugin(file: str | Path) -> Any:
    """Import a user's Python file, which registers its classes, and return the module.

    Raises:
        BadInput: the file does not exist, is not a Python file, or cannot be imported.
    """
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"plugin: expected a Python file, got {file}; give the path of a .py file")
    name = f"xaikit_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with ExitStack() as undo:
        undo.callback(sys.modules.pop, name)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise BadInput(f"{file}: expected a Python file that can be imported, got {_told(error)}") from error
        undo.pop_all()
    return module


def _plain(name: str) -> str:
    """Return a name as it is compared: in lower case, without hyphens, with ++ in words."""
    return re.sub(r"[^a-z0-9/]", "", name.casefold().replace("+", "plus"))


def _told(error: BaseException) -> str:
    """Return an exception as one line, with its type unless the message is ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, XaikitError) else f"{type(error).__name__}: {text}".removesuffix(": ")
