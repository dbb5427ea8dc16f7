"""The graph view: a traced copy of a network in which every operation is a node.

    deep copy -> torch.fx trace -> fold BatchNorm into the convolution or linear map before it

The user's network is never touched. Functional calls, additions and reused modules are nodes like any other. A network
that cannot be traced is refused with the module in which tracing stopped.

A folded copy is used only where it gives the network's own logits on the images at hand; `Batch.folded` sees to that.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier

_PLAIN = (int, float, str, type(None))
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_UNTRACEABLE = (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, LookupError, AssertionError)


_FOLDED: WeakKeyDictionary[Classifier, tuple[Any, Classifier | None]] = WeakKeyDictionary()


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

    A BatchNorm that follows anything else (DenseNet's pre-activation) stays, and so does one where it or what it
    follows runs more than once or has a hook.
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
        if norm.running_var is None or _hooks(first) or _hooks(norm):
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


def _hooks(module: nn.Module) -> list[Any]:
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _put(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(graph.get_submodule(parent), child, module.requires_grad_(False))


def folded_copies(classifier: Classifier) -> Iterator[Classifier]:
    """Yield classifiers round folded copies of a network: the one that is kept, then a new one.

    The kept copy is dropped when a module, hook, plain attribute or tensor was replaced or written. What such a look
    does not see (`weight.data.mul_(2)`, an entry of a list) shows in the logits: the caller compares them, and asks for
    the next copy where they differ. Nothing is yielded where there is nothing to fold or torch.fx cannot follow.
    """
    network = classifier.module
    if not any(isinstance(module, _BATCH_NORMS) for module in network.modules()):
        return
    state = _state(network)
    known = _FOLDED.get(classifier)
    if known is not None and known[0] == state:
        if known[1] is None:
            return
        yield known[1]
    copied = _twin(classifier)
    _FOLDED[classifier] = state, copied
    if copied is not None:
        yield copied


def _state(network: nn.Module) -> Any:
    """Return what tells that a network was changed by ordinary means."""
    tensors = [*network.parameters(), *network.buffers()]
    kinds = [(id(tensor), tensor._version, tensor.dtype, tensor.device) for tensor in tensors]
    return str(network), [_settings(module) for module in network.modules()], kinds


def _settings(module: nn.Module) -> Any:
    """Return a module's settings that change its output, beside its tensors: itself, hooks, plain attributes."""
    hooks = [id(one) for one in _hooks(module)]
    plain = [(name, one) for name, one in vars(module).items() if isinstance(one, _PLAIN) and name != "training"]
    return id(module), hooks, plain


def _twin(classifier: Classifier) -> Classifier | None:
    """Return the classifier round the folded copy, or None where nothing could be folded."""
    try:
        graph = trace(classifier.module)
    except BadInput:
        return None
    before = _norms(graph)
    graph = fold_batch_norm(graph)
    if _norms(graph) == before:
        return None
    twin = Classifier(
        graph,
        classifier.mean.flatten().tolist() if classifier.bounded else None,
        classifier.std.flatten().tolist() if classifier.bounded else None,
        classifier.size,
        output=classifier.output,
        channels=classifier.channels,
        name=classifier.name,
    )
    twin.outline(classifier.outline().size)
    return twin


def _norms(graph: fx.GraphModule) -> int:
    return sum(isinstance(module, _BATCH_NORMS) for module in graph.modules())
