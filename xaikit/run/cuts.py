"""Cuts: the parts of a forward through which the score depends on the image, but which have no gradient.

    y = x + f(x).detach()        the gradient of y is that of x alone

One forward of one image, with a graph, shows every call. A call cuts if it takes numbers that depend on the image and
returns others without a graph (`detach`, a function under `torch.no_grad`), rounds them, or takes them out of torch.
Only numbers that come back into the graph count: a mask x > 0 is constant almost everywhere, and a network without any
graph is refused elsewhere. Scripted code and an `autograd.Function` hide their cuts.
"""

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.model.classifier import Classifier
from xaikit.model.graph import tensors_in
from xaikit.model.torch_functions import BLANKS, Call, named

_ROUND = named("round floor ceil trunc fix")
_LEAVES_TORCH = named("item tolist numpy float int")

_CUTS: WeakKeyDictionary[Classifier, frozenset[str]] = WeakKeyDictionary()


def cuts(classifier: Classifier, inputs: Tensor) -> frozenset[str]:
    """Return the names of the functions that cut the graph, from one forward of a classifier, which is run only once.

    Args:
        classifier: the classifier, borrowed.
        inputs: (1, C, H, W) in the network's coordinates.
    """
    if classifier not in _CUTS:
        record = _Record()
        with torch.enable_grad(), classifier.probe() as probe:
            probe.otherwise(record.call)
            try:
                classifier.logits(inputs.detach().requires_grad_(True))
            except RuntimeError:  # a forward that cannot have a graph, for example through NumPy
                record.names.clear()
        _CUTS[classifier] = frozenset(record.names)
    return _CUTS[classifier]


@dataclass
class _Record:
    """The functions that cut the graph.

    `cut` holds the tensors without a graph that depend on the image, with the name of the function that cut them; the
    tensors are kept alive, so that an `id` identifies one tensor.
    """

    names: set[str] = field(default_factory=set)
    cut: dict[int, tuple[Tensor, str]] = field(default_factory=dict)

    def call(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = [tensor for tensor in tensors_in((args, kwargs)) if tensor.is_floating_point()]
        signals = [tensor for tensor in arguments if tensor.requires_grad]
        severed = [self.cut[id(t)][1] for t in arguments if not t.requires_grad and id(t) in self.cut]
        output = function(*args, **kwargs)
        if function in BLANKS or not (signals or severed):
            return output
        name = function.__name__.strip("_")
        if function in _LEAVES_TORCH and not isinstance(output, Tensor):
            self.names.add(name)
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                self.names.update(severed)
                self.names.update({name} if function in _ROUND else ())
            elif tensor.is_floating_point():
                self.cut[id(tensor)] = tensor, severed[0] if severed else name
        return output
