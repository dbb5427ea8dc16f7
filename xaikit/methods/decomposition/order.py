"""The order of the maps between the image and the logits: which maps are first and which are last.

    first     no map lies between it and the image
    last      no map lies between it and the logits

Convolutions and linear layers are maps; sums, poolings, normalisations and constants are not. A network with several
branches has several first and last maps. The order is that of the autograd graph, so it depends neither on the order in
which the forward calls its branches nor on operations that the logits do not depend on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from xaikit.methods.decomposition.signals import before


class Record:
    """A linear operation at its node of the graph, and where it lies among the maps.

    Args:
        is_map: whether the operation is a map.
        rescales: whether the operation changes the range of its input.
    """

    def __init__(self, *, is_map: bool = False, rescales: bool = False) -> None:
        self.is_map = is_map
        self.rescales = rescales
        self.first = False
        self.last = False
        self.after_rescaling = False


def arrange(nodes: set[Any]) -> None:
    """Determine the position of each record among the nodes that the logits depend on."""
    records = {node: record for node in nodes if (record := getattr(node, "record", None)) is not None}
    users: dict[Any, list[Any]] = defaultdict(list)
    for node in nodes:
        for source, _ in before(node):
            users[source].append(node)
    maps = [node for node, record in records.items() if record.is_map]
    after_a_map = _reached(maps, lambda node: users[node])
    before_a_map = _reached(maps, lambda node: [source for source, _ in before(node) if source in nodes])
    for node, record in records.items():
        record.first, record.last = node not in after_a_map, node not in before_a_map
    rescaling = [node for node, record in records.items() if record.rescales and record.first]
    for node in _reached(rescaling, lambda node: users[node]) & records.keys():
        records[node].after_rescaling = True


def _reached(starts: Iterable[Any], following: Callable[[Any], list[Any]]) -> set[Any]:
    """Return the nodes that follow one of the starts, in one or more steps."""
    waiting = [node for start in starts for node in following(start)]
    reached: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += following(node)
    return reached
