"""The identity of code: which versions compute, and the source of classes that no version names.

    versions   xaikit, torch and the packages that read pictures and compute numbers
    code       classes -> "" if the versions identify them, else a hash of their source files and of what these import
    own_code   a hash of all source files of xaikit, for results that are cheap to compute again

Code of xaikit and of the packages in `PACKAGES` is identified by their version. Any other class, such as a plugin's, is
identified by the bytes of its source files: those of its bases, and of the modules that these import anywhere, as far
as they belong to the same package or are not installed. Methods of other packages are identified by the version of the
package. A class without a source file, as in an interpreter, has a new identity in every process.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import secrets
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from xaikit import __version__
from xaikit.foundation.identity import fingerprint

PACKAGES = {
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
}
"""Modules that read pictures and compute numbers beside torch, with the name of their package."""

_KNOWN = {"xaikit", "torch", *PACKAGES, *sys.stdlib_module_names}
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_NO_SOURCE = secrets.token_hex(8)


def versions() -> str:
    """Return the versions of xaikit, torch and `PACKAGES`."""
    known = [f"xaikit {__version__}", f"torch {torch.__version__}"]
    return ", ".join([*known, *(f"{name} {_version(name)}" for name in PACKAGES.values())])


def code(*kinds: type) -> str:
    """Return what identifies the code of classes: "" if the versions do, else 16 hexadecimal digits."""
    guests = {str(getattr(kind, "source", "")) for kind in kinds if "/" in str(getattr(kind, "name", ""))}
    names = {base.__module__ for kind in kinds for base in kind.__mro__}
    sources = _sources({name for name in names if _foreign(name)})
    return fingerprint({"packages": sorted(guests), "sources": sources}) if guests or sources else ""


def network_code(network: nn.Module) -> str:
    """Return what identifies the code of a network's modules; "" if the versions do."""
    return code(*{type(module) for module in network.modules()})


def is_own(kind: type) -> bool:
    """Return whether a class is xaikit's."""
    return kind.__module__.partition(".")[0] == "xaikit"


def is_installed(name: str) -> bool:
    """Return whether a module is installed, belongs to Python, or has no file."""
    file = _file(name)
    return file is None or name.partition(".")[0] in sys.stdlib_module_names or str(file).startswith(_INSTALLED)


def own_code() -> str:
    """Return a hash of the source files of xaikit, 16 hexadecimal digits."""
    package = Path(__file__).parent.parent
    return fingerprint([hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(package.rglob("*.py"))])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _foreign(module: str) -> bool:
    return module.partition(".")[0] not in _KNOWN


def _sources(modules: set[str]) -> list[str]:
    """Return the sorted hashes of the source files of modules and of those that they import."""
    packages = {name.partition(".")[0] for name in modules}
    pending, seen, hashes = list(modules), set(modules), list[str]()
    while pending:
        name = pending.pop()
        file = _file(name)
        source = _read(file)
        hashes.append(_NO_SOURCE if source is None else hashlib.sha256(source).hexdigest())
        for other in {*_used(sys.modules.get(name)), *_imported(name, source or b"")} - seen:
            own = other.partition(".")[0] in packages
            if _foreign(other) and (own or not is_installed(other)):
                seen.add(other)
                pending.append(other)
    return sorted(hashes)


def _file(name: str) -> Path | None:
    """Return the file of a module, loaded or not; None if it has none or does not exist."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if isinstance(file, str) else None
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        return None  # looking for it would import its package
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _read(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError:
        return None


def _used(module: ModuleType | None) -> Iterator[str]:
    """Yield the loaded modules that the names of a module refer to or come from."""
    for value in list(vars(module).values()) if module else []:
        name = value.__name__ if isinstance(value, ModuleType) else _module_of(value)
        if name in sys.modules:
            yield name


def _imported(name: str, source: bytes) -> Iterator[str]:
    """Yield the modules with a file that the import statements of a source name, wherever they stand in it."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):  # compiled code
        return
    package = getattr(sys.modules.get(name), "__package__", None) or name.rpartition(".")[0]
    for node in nodes:
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for module in found:
            parts = module.split(".")
            every = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
            yield from (one for one in every if one and _foreign(one) and _file(one) is not None)


def _module_of(value: Any) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""
