"""The outline of a network: its layers, default layer and outputs, observed in one forward of one image.

    layers     every module whose output is (N, C, h, w), in the order of execution
    default    the last tensor with several positions that every path from the image to the outputs goes through
    end        a softmax or sigmoid at the end of the network (ends.py)

How the default target layer is found (paths.py reads the autograd graph, so names of functions do not matter):
1. Take the last common tensor (1, C, h, w) with h*w > 1 after the first learned map. A tensor of which one position has
   a gradient counts as one position; an adaptive pooling to several positions counts as a pooling (VGG). Gates, side
   heads and branches are not common.
2. If it already holds the class scores, one channel each (SqueezeNet), take the input of the convolution that computed
   it.
3. If it has several names, take the outermost module that does not contain every convolution before it: `layer4`, not
   `layer4.2`; `features.12`, not `features`. If it is the functional ReLU of a module's output (DenseNet), take that
   name and keep the ReLU. If it has none, take the common tensor before it, unless a learned map lies between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.ends import End, EndsIn, Forward
from xaikit.model.hooks import Layer, Probe, parse_layer
from xaikit.model.paths import Edge, Paths, WithGraph, edge_of, gradient_at, is_custom, paths
from xaikit.model.rows import Dependence
from xaikit.model.torch_functions import (
    ADAPTIVE_POOLS,
    CONVOLUTIONS,
    LINEARS,
    MAX_POOLS,
    MEAN_POOLS,
    MEANS,
    MOVES,
    PRODUCTS,
    RELUS,
    Call,
    named,
)

_LEARNED = CONVOLUTIONS | LINEARS | named("matmul mm bmm einsum addmm baddbmm")
_LAYER_NORMS = named("layer_norm")
_REARRANGES = named(
    "flip roll rot90 permute transpose swapaxes swapdims movedim moveaxis t view reshape flatten unflatten narrow "
    "select index_select gather take_along_dim getitem unfold fold as_strided grid_sample"
)
_POOLS = ADAPTIVE_POOLS | MEANS | MEAN_POOLS | MAX_POOLS


@dataclass(frozen=True)
class Outline:
    """The structure of a network as observed in one forward.

    Args:
        layers: output shape (C, h, w) by module name in execution order; the last call of a reused module.
        channels_last: modules whose output is (N, h, w, C), which is no layer.
        calls: number of calls by module name.
        default: the default target layer, or None.
        collapsed: whether the layer that the head pools has one position, because the image is small.
        moves: whether values are moved before the layer that the head pools, so that its grid may not lie on the image.
        class_map: the layer with one channel per class whose spatial mean is the logits, or None.
        classes: number of outputs K.
        end: the softmax or sigmoid at the end, or none.
        activation_bytes: memory of all module outputs for one image, in bytes.
        size: (H, W) of that image.
        outputs: (1, K) outputs for that image.
        random: whether the forward is random although the network is in eval mode.
        rows: what depends on the other images of a batch.
    """

    layers: dict[str, tuple[int, int, int]]
    channels_last: frozenset[str]
    calls: dict[str, int]
    default: Layer | None
    class_map: Layer | None
    collapsed: bool
    moves: bool
    classes: int
    end: End
    activation_bytes: int
    size: tuple[int, int]
    outputs: Tensor
    random: bool = False
    rows: Dependence = field(default_factory=Dependence)

    @property
    def ends_in(self) -> EndsIn:
        """Kind of the network's outputs: logits, or probabilities that need no further softmax or sigmoid."""
        return self.end.kind


@dataclass
class _Trace:
    """What one forward showed, by edge of the autograd graph.

    `names`: modules that returned the tensor, with the number of the call. `grids`: tensors (1, C, h, w). `tokens`:
    tensors (1, T, C). `learned`: outputs of maps by constants, such as weights, at several positions. `points`: tensors
    of one position that are pooled.
    """

    names: dict[Edge, list[tuple[str, int]]] = field(default_factory=dict)
    grids: dict[Edge, Tensor] = field(default_factory=dict)
    tokens: set[Edge] = field(default_factory=set)
    learned: set[Edge] = field(default_factory=set)
    convolved: set[Edge] = field(default_factory=set)
    products: set[Edge] = field(default_factory=set)
    channels_last: set[Edge | None] = field(default_factory=set)
    rectified: set[Edge] = field(default_factory=set)
    adapted: set[Edge] = field(default_factory=set)
    moved: set[Edge] = field(default_factory=set)
    points: set[Edge] = field(default_factory=set)
    returned: list[tuple[str, int, Tensor, int]] = field(default_factory=list)
    layers: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)
    memory: int = 0
    forward: Forward = field(default_factory=Forward)

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        if isinstance(module, nn.Conv2d):
            self.convolutions.append(name)
        if not isinstance(output, Tensor):
            return
        self.memory += output.nbytes
        edge = self.see(output)
        if edge is not None and name:
            self.names.setdefault(edge, []).append((name, call))
        if name:
            self.returned.append((name, call, output, output._version))
        if output.ndim == 4 and len(output) == 1 and name:
            self.layers.pop(name, None)
            self.layers[name] = (output.shape[1], output.shape[2], output.shape[3])

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not args or not isinstance(output, Tensor):
            return
        edge = self.see(output)
        if edge is not None and output.ndim == 4:
            self.note_channels(function, args, output, edge)
        if edge is not None and function in RELUS:
            self.rectified.add(edge)
        if edge is not None and function in ADAPTIVE_POOLS:
            self.adapted.add(edge)
        if edge is not None and function in CONVOLUTIONS:
            self.convolved.add(edge)
        if edge is not None and function in PRODUCTS:
            self.products.add(edge)
        if edge is not None and function in _REARRANGES:
            self.moved.add(edge)
        constant = any(isinstance(value, Tensor) and value.is_leaf for value in (*args, *kwargs.values()))
        if edge is not None and function in _LEARNED and constant and _is_spread(output):
            self.learned.add(edge)
        if not isinstance(args[0], Tensor):
            return
        tensor = args[0]
        edge = self.see(tensor)
        if edge is not None and function in _POOLS and tensor.ndim == 4 and _positions(tensor) == 1:
            self.points.add(edge)

    def note_channels(self, function: Call, args: tuple[Any, ...], output: Tensor, edge: Edge) -> None:
        """Note tensors (1, h, w, C): a linear map or LayerNorm of the last axis says so, and sums pass it on."""
        same = [edge_of(value) for value in args if isinstance(value, Tensor) and value.shape == output.shape]
        if function in LINEARS or (function in _LAYER_NORMS and len(args[1]) == 1):
            self.channels_last |= {edge, edge_of(args[0])}
        elif function not in MOVES and not self.channels_last.isdisjoint(same):
            self.channels_last.add(edge)

    def see(self, tensor: Tensor) -> Edge | None:
        """Return the tensor's edge; keep a tensor (1, C, h, w)."""
        edge = edge_of(tensor)
        if edge is not None and tensor.ndim == 4 and len(tensor) == 1:  # more rows are parts of the image
            self.grids[edge] = tensor
        elif edge is not None and tensor.ndim == 3 and _is_spread(tensor):
            self.tokens.add(edge)
        return edge

    def settle(self) -> None:
        """Name the outputs that a custom operation around their module gave another edge (a reentrant checkpoint)."""
        for name, call, output, version in self.returned:
            edge = self.see(output)
            if edge is None or not is_custom(edge[0]) or output._version != version:
                continue
            names = self.names.setdefault(edge, [])
            names += [(name, call)] if (name, call) not in names else []


def _observed(
    network: nn.Module, inputs: Tensor, unwrap: Callable[[Any], Tensor]
) -> tuple[_Trace, Edge | None, Tensor]:
    """Return what a forward showed, the edge of the image and the outputs (1, K)."""
    trace = _Trace()
    image = inputs.detach().clone().requires_grad_(True)
    with Probe(network) as probe:
        given = image.clone()  # not a leaf: a network may write into its input
        start = edge_of(given)
        probe.observe(trace.on_module, trace.on_function)
        with trace.forward:
            outputs = unwrap(network(given))
    trace.settle()
    return trace, start, outputs


def _positions(tensor: Tensor, channels_last: bool = False) -> int:
    return tensor[0, ..., 0].numel() if channels_last else tensor[0, 0].numel() if tensor.ndim == 4 else 1


def _is_spread(tensor: Tensor) -> bool:
    """Return whether a tensor has several positions, in a grid (1, C, h, w) or in tokens (1, T, C) or (1, C, T)."""
    return _positions(tensor) > 1 or (tensor.ndim == 3 and len(tensor) == 1 and min(tensor.shape[1:]) > 1)


def outline(network: nn.Module, inputs: Tensor, unwrap: Callable[[Any], Tensor]) -> Outline:
    """Return the outline of a network, from one forward.

    Args:
        network: the network, borrowed and in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        unwrap: converts the network's output to (1, K).
    """
    try:
        with torch.enable_grad(), WithGraph():
            trace, start, outputs = _observed(network, inputs, unwrap)
    except (RuntimeError, TypeError, ValueError):  # such as `.numpy()` of a tensor with a graph
        with torch.no_grad():
            trace, start, outputs = _observed(network, inputs, unwrap)
    if len(outputs) != 1 or not outputs.shape[1]:
        raise BadInput(
            f"model: expected logits (1, K) for one image, got {tuple(outputs.shape)}; return one row per image"
        )
    channels_last = {name for edge in trace.channels_last if edge in trace.names for name, _ in trace.names[edge]}
    end = trace.forward.end(outputs.detach())
    before = trace.forward.before(end, outputs.detach()) if end.kind != "logits" else None
    logits = outputs if before is None else before
    graph = paths(start, edge_of(outputs))
    last = _last_with_positions(trace, graph, outputs)
    class_map = last if last is not None and _is_class_map(trace.grids[last].detach(), logits.detach()) else None
    entered = last
    if last is not None and (class_map is not None or _holds_scores(last, trace.grids[last], logits)):
        entered = _before_convolution(trace, graph, last)
    return Outline(
        layers={name: shape for name, shape in trace.layers.items() if name not in channels_last},
        channels_last=frozenset(channels_last),
        calls=trace.calls,
        default=None if entered is None else _named(trace, graph, entered),
        class_map=None if class_map is None else _named(trace, graph, class_map),
        moves=_are_moved(trace, graph, last),
        collapsed=last is not None and _is_collapsed(trace, graph, last),
        classes=outputs.shape[1],
        end=end,
        activation_bytes=trace.memory,
        size=(inputs.shape[2], inputs.shape[3]),
        outputs=outputs.detach(),
    )


def _last_with_positions(trace: _Trace, graph: Paths, outputs: Tensor) -> Edge | None:
    """Return the last common tensor with several positions that depends on a learned map.

    There is none where learned maps of tokens come after it, or where its channels are last: those have no grid.
    """
    learned = [graph.position[node] for node, _ in trace.learned if node in graph.position]
    tokens: Edge | None = None
    for index in reversed(range(len(graph.common))):
        edge = graph.common[index]
        if not learned or graph.position[edge[0]] < min(learned):
            return None
        if edge in trace.tokens:
            tokens = tokens or edge
        origin = next(before for before in reversed(graph.common[: index + 1]) if before not in trace.moved)
        if edge != origin and origin in trace.grids and origin not in trace.channels_last:
            continue  # the same values, as they lay before they were moved
        if edge not in trace.grids or _positions(trace.grids[edge], edge in trace.channels_last) == 1:
            continue
        if edge in trace.channels_last:
            return None
        if tokens is not None and not graph.is_direct(edge, tokens, trace.learned, trace.products):
            return None
        if edge not in trace.adapted and not _is_one_position(edge, outputs):
            return edge
    return None


def _are_moved(trace: _Trace, graph: Paths, last: Edge | None) -> bool:
    """Return whether values are moved before a tensor, or anywhere if there is none."""
    end = math.inf if last is None else graph.position[last[0]]
    return any(node in graph.position and graph.position[node] <= end for node, _ in trace.moved)


def _is_collapsed(trace: _Trace, graph: Paths, last: Edge) -> bool:
    """Return whether convolutions after a tensor end in a common tensor of one position that is pooled."""
    here = graph.position[last[0]]
    pooled = max((graph.position[edge[0]] for edge in graph.common if edge in trace.points), default=here)
    return any(here < graph.position.get(node, 0) <= pooled for node, _ in trace.convolved)


def _gradient(edge: Edge, outputs: Tensor, weights: Tensor) -> Tensor | None:
    try:
        return gradient_at(edge, outputs, weights)
    except RuntimeError:  # no backward through it: the method that needs one says so
        return None


def _is_one_position(edge: Edge, outputs: Tensor) -> bool:
    """Return whether the outputs depend on a single position of a tensor (1, C, h, w)."""
    gradient = _gradient(edge, outputs, torch.linspace(1, 2, outputs.shape[1], device="cpu"))
    return gradient is not None and int((gradient != 0).any(1).sum()) == 1


def _holds_scores(edge: Edge, tensor: Tensor, logits: Tensor) -> bool:
    """Return whether each of several logits (1, K) depends on a channel of its own only, whatever pools it."""
    classes = logits.shape[-1]
    if logits.ndim != 2 or classes < 2 or tensor.shape[1] != classes:
        return False
    for row in torch.eye(classes, device="cpu")[[0, -1]]:
        gradient = _gradient(edge, logits, row)
        if gradient is None or not bool((gradient[0].flatten(1).abs().amax(1).cpu() > 0).eq(row > 0).all()):
            return False
    return True


def _is_class_map(activation: Tensor, logits: Tensor) -> bool:
    """Return whether an activation has one channel per class whose spatial mean is the logits, of any shape."""
    mean, expected = activation.mean((2, 3)).float(), logits.float().flatten(1)
    if mean.shape != expected.shape:
        return False
    return torch.allclose(mean, expected, rtol=1e-3, atol=1e-4 * max(1e-6, float(expected.abs().max())))


def _before_convolution(trace: _Trace, graph: Paths, scores: Edge) -> Edge:
    """Return the input of the convolution that computed the class scores, or they if there is more between them."""
    before = graph.common[: graph.common.index(scores) + 1]
    learned = [graph.position[node] for node, _ in trace.learned if node in graph.position]
    computed = max((index for index, edge in enumerate(before) if edge in trace.convolved), default=0)
    seen = [edge for edge in before[:computed] if edge in trace.grids and graph.position[edge[0]] >= min(learned)]
    direct = graph.is_direct(before[computed], scores, trace.learned, trace.products)
    return seen[-1] if direct and seen else scores


def _named(trace: _Trace, graph: Paths, entered: Edge) -> Layer | None:
    """Return the layer whose output is a common tensor, or the one before it, unless a learned map lies between."""
    before = graph.common[: graph.common.index(entered) + 1]
    while before and graph.is_direct(before[-1], entered, trace.learned, trace.products):
        edge = before.pop()
        if edge in trace.names and edge not in trace.adapted:
            return _outermost(trace, edge)
        if edge in trace.rectified and before and before[-1] in trace.names:
            return replace(_outermost(trace, before[-1], rectified=True), follow="relu")
    return None


def _outermost(trace: _Trace, edge: Edge, rectified: bool = False) -> Layer:
    """Return the outermost useful name of a tensor; the whole feature extractor is useful before a functional ReLU."""
    names = trace.names[edge]
    useful = names if rectified else [name for name in names if not _holds_all(name[0], trace.convolutions)]
    name, call = min(useful or names[:1], key=lambda entry: entry[0].count("."))
    return Layer(name, call if trace.calls[name] > 1 else None)


def _holds_all(name: str, convolutions: list[str]) -> bool:
    """Return whether a module is the whole feature extractor: it contains every convolution before the head."""
    inside = [convolution.startswith(f"{name}.") for convolution in convolutions]
    first_outside = inside.index(False) if False in inside else len(inside)
    return first_outside > 0 and True in inside and not any(inside[first_outside:])


def find_layer(network: nn.Module, layer: str | nn.Module) -> Layer:
    """Return the layer for a dotted name or a module.

    Raises:
        NoSuchLayer: the network has no layer of that name.
        BadInput: `layer` is a module of another network, or neither a name nor a module.
    """
    names = {name: module for name, module in network.named_modules(remove_duplicate=False) if name}
    if isinstance(layer, nn.Module):
        name = next((name for name, module in names.items() if module is layer), None)
        if name is None:
            raise BadInput(
                f"layer: expected a module of the network, got another {type(layer).__name__}; give its name"
            )
        return Layer(name)
    if not isinstance(layer, str):
        raise BadInput(f"layer: expected a name or a module, got {type(layer).__name__}; layers() lists the names")
    parsed = parse_layer(layer)
    if parsed.name not in names:
        parsed = parse_layer(layer.removeprefix("module."))
    if parsed.name not in names:
        raise NoSuchLayer(parsed.name, names)
    return parsed
