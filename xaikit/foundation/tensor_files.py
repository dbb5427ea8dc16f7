"""Files of tensors: safetensors with a description as JSON and a checksum of both.

sha256 of the description and of sorted (name, dtype, shape, bytes), compared when the file is read
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic
from xaikit.foundation.identity import canonical_json, tensor_bytes

_CHECKSUM = "sha256"


def write_tensors(file: str | Path, tensors: Mapping[str, Tensor], key: str, about: Mapping[str, Any]) -> None:
    """Write tensors and their description, atomically.

    Args:
        file: path of the file.
        tensors: tensors by name, on any device.
        key: name of the description in the file's metadata, which says what kind of file it is.
        about: JSON-like description.
    """
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = canonical_json(about)
    with atomic(file) as temporary:
        try:
            save_file(stored, temporary, {key: text, _CHECKSUM: _checksum(stored, text)})
        except SafetensorError as error:  # the disk is full
            raise OSError(str(error)) from error


def read_tensors(file: str | Path, key: str) -> tuple[Any, dict[str, Tensor]]:
    """Return the description and the tensors of a file.

    Raises:
        BadInput: the checksum is not that of the content.
        OSError, SafetensorError, KeyError, ValueError: the file is not one that `write_tensors` writes for this key.
    """
    with safe_open(str(file), framework="pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    text = metadata[key]
    if metadata.get(_CHECKSUM, "") not in ("", _checksum(tensors, text)):
        raise BadInput(f"{file}: expected a file as it was written, got a damaged one; make it again")
    return json.loads(text), tensors


def content_id(file: str | Path) -> str:
    """Return what identifies the content of a file: equal for equal tensors and descriptions, "" if unknown."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            return str((opened.metadata() or {}).get(_CHECKSUM, ""))
    except (OSError, SafetensorError):
        return ""


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor_bytes(tensor))
    return digest.hexdigest()
