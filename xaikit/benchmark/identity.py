"""The identity of a row: the content of everything that could change its numbers.

    environment  versions of the packages that compute, kind of device, number of threads
    conditions   data set, model with weights, preprocessing and code, target rule, environment
    setting      conditions, method with parameters and code, layer, library, seed               -> setting
    picture      name, content of the file, label                                                -> picture
    unit         setting and picture: a map                                                      -> unit_id
    value        a unit and a measure with parameters and code, or levels and fill of the curves -> protocol

Rows are pooled only if their conditions are equal, and a unit is done only if a row with its unit_id has every value
that is asked for. Nothing in an identity is a path: the same content elsewhere is the same row.
"""

from __future__ import annotations

import torch

from xaikit.foundation.code import versions
from xaikit.foundation.identity import fingerprint


def environment(device: torch.device) -> str:
    """Return the versions, the kind of device and the number of threads that numbers are computed with."""
    return f"{versions()}, {device.type}, {torch.get_num_threads()} threads"


def picture_id(name: str, content: str, label: int | None) -> str:
    """Return the identity of a picture: 16 hexadecimal digits."""
    return fingerprint({"name": name, "content": content, "label": label})


def unit_id(setting: str, picture: str) -> str:
    """Return the identity of a unit, from those of its setting and its picture."""
    return fingerprint({"setting": setting, "image": picture})


def map_name(map_id: str, picture: str) -> str:
    """Return the name of a kept map, from the identities of what it depends on and of its picture."""
    return fingerprint({"map": map_id, "image": picture})
