"""The identity of a row: the content of everything that could change its numbers.

    environment  versions of the packages that compute, kind of device, number of threads
    conditions   data set, model with weights, preprocessing and code, target rule, protocol, environment
    setting      conditions, method with parameters and code, layer, library, seed               -> setting
    picture      name, content of the file, label                                                -> picture
    unit         setting and picture                                                             -> unit_id

Rows are pooled only if their conditions are equal, and a unit is done only if a row with its unit_id exists. Nothing in
an identity is a path: the same content elsewhere is the same row.

Code of xaikit and of the packages in `PACKAGES` is identified by their version. Any other class, such as a plugin's, is
identified by the bytes of its source files: those of its bases and of the modules that these have imported at their
top, as far as they belong to the same package or are not installed. Methods of other packages are identified by the
version of the package. A class without a source file, as in an interpreter, has a new identity in every process.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import sysconfig
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


def environment(device: torch.device) -> str:
    """Return the versions, the kind of device and the number of threads that numbers are computed with."""
    versions = [f"xaikit {__version__}", f"torch {torch.__version__}"]
    versions += [f"{name} {_version(name)}" for name in PACKAGES.values()]
    return ", ".join([*versions, device.type, f"{torch.get_num_threads()} threads"])


def picture_id(name: str, content: str, label: int | None) -> str:
    """Return the identity of a picture: 16 hexadecimal digits."""
    return fingerprint({"name": name, "content": content, "label": label})


def unit_id(setting: str, picture: str) -> str:
    """Return the identity of a unit, from those of its setting and its picture."""
    return fingerprint({"setting": setting, "image": picture})


def code(*kinds: type) -> str:
    """Return what identifies the code of classes: "" if the environment does, else 16 hexadecimal digits."""
    guests = {str(getattr(kind, "source", "")) for kind in kinds if "/" in str(getattr(kind, "name", ""))}
    names = {base.__module__ for kind in kinds for base in kind.__mro__}
    sources = _sources({name for name in names if _foreign(name)})
    return fingerprint({"packages": sorted(guests), "sources": sources}) if guests or sources else ""


def network_code(network: nn.Module) -> str:
    """Return what identifies the code of a network's modules; "" if the environment does."""
    return code(*{type(module) for module in network.modules()})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _foreign(module: str) -> bool:
    return module.partition(".")[0] not in _KNOWN


def _sources(modules: set[str]) -> list[str]:
    """Return the sorted hashes of the source files of modules and of those that they imported."""
    packages = {name.partition(".")[0] for name in modules}
    pending, seen, hashes = list(modules), set(modules), list[str]()
    while pending:
        module = sys.modules.get(pending.pop())
        hashes.append(_source(module))
        for name in _imported(module) - seen:
            if name.partition(".")[0] in packages or not _installed(sys.modules[name]):
                seen.add(name)
                pending.append(name)
    return sorted(hashes)


def _source(module: ModuleType | None) -> str:
    file = getattr(module, "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else _NO_SOURCE
    except OSError:
        return _NO_SOURCE


def _imported(module: ModuleType | None) -> set[str]:
    """Return the modules that a module's names refer to or come from, without those that the environment identifies."""
    values = list(vars(module).values()) if module else []
    names = {value.__name__ if isinstance(value, ModuleType) else _module_of(value) for value in values}
    return {name for name in names if _foreign(name) and name in sys.modules}


def _module_of(value: Any) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def _installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or str(file).startswith(_INSTALLED)
