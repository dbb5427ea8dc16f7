"""The graph view: a traced copy of a network in which every operation is a node.

    deep copy -> torch.fx trace -> fold BatchNorm into the convolution or linear map before it

The user's network is never touched. Functional calls, additions and reused modules are nodes like any other. A network
that cannot be traced is refused with the module in which tracing stopped.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from xaikit.core.errors import BadInput

__all__ = ["fold_batch_norm", "trace"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_UNTRACEABLE = (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, LookupError, AssertionError)


class _Tracer(fx.Tracer):
    """A tracer that remembers where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a traced copy of a network in eval mode; the network itself stays as it is.

    Raises:
        BadInput: the network's flow depends on values, or runs code that torch.fx cannot follow; the message names the
            module.
    """
    tracer = _Tracer()
    try:
        copied = copy.deepcopy(network).eval().requires_grad_(False)
        return fx.GraphModule(copied, tracer.trace(copied))
    except _UNTRACEABLE as error:
        place = tracer.inside[-1] if tracer.inside else type(network).__name__
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"graph: expected a network that torch.fx can trace, stopped in {place!r} ({reason}); rewrite it there"
        ) from error


def fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold each BatchNorm into the convolution or linear map whose output only it uses; change and return `graph`.

    A BatchNorm that follows anything else (DenseNet's pre-activation), or a module that runs more than once, stays.
    """
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(modules.get(node.target), _BATCH_NORMS):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        if calls[node.target] > 1 or calls[before.target] > 1:
            continue
        first, norm = modules[str(before.target)], modules[node.target]
        if norm.running_var is None:
            continue
        if isinstance(first, _CONVOLUTIONS):
            folded: nn.Module = fuse_conv_bn_eval(first, norm)
        elif isinstance(first, nn.Linear) and norm.affine:
            folded = fuse_linear_bn_eval(first, norm)
        else:
            continue
        _put(graph, str(before.target), folded)
        modules[str(before.target)] = folded
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _put(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(graph.get_submodule(parent), child, module.requires_grad_(False))
