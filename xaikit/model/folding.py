"""Folding: a traced copy of a network whose BatchNorms are merged into the layers before them.

    deep copy -> torch.fx trace -> fold BatchNorm into the convolution or linear layer before it

The user's network is never modified. Functional calls, additions and reused modules are nodes of the traced graph. If a
network cannot be traced, the error names the module in which tracing stopped.

A folded copy is used only if it gives the network's own logits on the images at hand; `Batch.folded` checks that.
"""

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
    """A tracer that records the module it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a traced copy of a network in eval mode; the network itself is not modified.

    Raises:
        BadInput: the control flow depends on tensor values, or torch.fx cannot trace the code; the message names the
            module.
    """
    tracer = _Tracer()
    try:
        copied = copy.deepcopy(network).eval().requires_grad_(False)
        return fx.GraphModule(copied, tracer.trace(copied))
    except _UNTRACEABLE as error:
        where = tracer.inside[-1] if tracer.inside else type(network).__name__
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"graph: expected a network that torch.fx can trace, stopped in {where!r} ({reason}); rewrite it there"
        ) from error


def fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold each BatchNorm into the convolution or linear layer before it, in place, and return `graph`.

    A BatchNorm is kept if it follows anything else (DenseNet's pre-activation), if the layer's output has other uses,
    or if either of the two runs more than once or has a hook.
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
    """Yield classifiers of folded copies of the network: the cached copy, then a new one.

    The cached copy is dropped when a module, hook, plain attribute or tensor was replaced or written. Changes that this
    check misses (`weight.data.mul_(2)`, an entry of a list) show in the logits: the caller compares them and takes the
    next copy if they differ. Nothing is yielded if there is nothing to fold or torch.fx cannot trace the network.
    """
    network = classifier.module
    if not any(isinstance(module, _BATCH_NORMS) for module in network.modules()):
        return
    state = _state(network)
    cached = _FOLDED.get(classifier)
    if cached is not None and cached[0] == state:
        if cached[1] is None:
            return
        yield cached[1]
    copied = _folded(classifier)
    _FOLDED[classifier] = state, copied
    if copied is not None:
        yield copied


def _state(network: nn.Module) -> Any:
    """Return a value that differs after the network was changed by ordinary means."""
    tensors = [*network.parameters(), *network.buffers()]
    versions = [(id(tensor), tensor._version, tensor.dtype, tensor.device) for tensor in tensors]
    return str(network), [_settings(module) for module in network.modules()], versions


def _settings(module: nn.Module) -> Any:
    """Return the module settings other than tensors that change its output: identity, hooks, plain attributes."""
    hooks = [id(hook) for hook in _hooks(module)]
    plain = [(name, value) for name, value in vars(module).items() if isinstance(value, _PLAIN) and name != "training"]
    return id(module), hooks, plain


def _folded(classifier: Classifier) -> Classifier | None:
    """Return a classifier of the folded copy, or None if nothing could be folded."""
    try:
        graph = trace(classifier.module)
    except BadInput:
        return None
    before = _count_norms(graph)
    graph = fold_batch_norm(graph)
    if _count_norms(graph) == before:
        return None
    folded = Classifier(
        graph,
        classifier.mean.flatten().tolist() if classifier.bounded else None,
        classifier.std.flatten().tolist() if classifier.bounded else None,
        classifier.size,
        output=classifier.output,
        channels=classifier.channels,
        name=classifier.name,
    )
    folded.outline(classifier.outline().size)
    return folded


def _count_norms(graph: fx.GraphModule) -> int:
    return sum(isinstance(module, _BATCH_NORMS) for module in graph.modules())
