"""The outline of a network: its layers, default layer and outputs, observed in one forward of one image.

    layers     every module whose output has a grid of positions on the image (grids.py), in the order of execution
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
4. If there is none, take the last module whose output is tokens or has its channels last, and through which all
   positions reach the outputs: `norm` before mean pooling, the input of the last attention before a class token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.coordinates import layouts
from xaikit.model.ends import End, EndsIn
from xaikit.model.grids import Grid
from xaikit.model.hooks import Layer, cut, parse_layer
from xaikit.model.paths import Edge, Paths, WithGraph, edge_of, gradients_at, paths
from xaikit.model.rows import Dependence
from xaikit.model.trace import Trace, observed, positions

_MOST_CHANNELS = 0.9  # share of a tensor's channels above which nearly all have a gradient
_MOST_TRIES = 32  # tensors that are no common ones whose paths are tested by a backward each
_NEAREST = 12  # common tensors among which the one before an output is sought
_PLAIN = Grid((1, 1, 1), (1,), torch.zeros(1, dtype=torch.int64, device="cpu"), (1, 1))


@dataclass(frozen=True, eq=False)
class Outline:
    """The structure of a network as observed in one forward.

    Args:
        layers: output shape (C, h, w) by module name in execution order; the last call of a reused module.
        grids: layout by module name and call where the output is not (C, h, w): channels last, or tokens.
        without_grid: modules with outputs of three or four axes whose positions on the image are not known.
        apart: names of modules whose output does not have one row for one image, such as those of sequences first.
        calls: number of calls by module name.
        default: the default target layer, or None.
        collapsed: whether the layer that the head pools has one position, because the image is small.
        straight: calls of modules whose grids lie on the image, as no call up to them moves values (addresses.py).
        class_map: the layer with one channel per class whose spatial mean is the logits, or None.
        hides: whether hidden code, such as scripts and other threads, makes some of the tensors (origins.py).
        classes: number of outputs K.
        end: the softmax or sigmoid at the end, or none.
        activation_bytes: memory of all module outputs for one image, in bytes.
        size: (H, W) of that image.
        outputs: (1, K) outputs for that image.
        random: whether the forward is random although the network is in eval mode.
        rows: what depends on the other images of a batch.
    """

    layers: dict[str, tuple[int, int, int]]
    grids: dict[tuple[str, int], Grid]
    without_grid: frozenset[str]
    apart: frozenset[str]
    calls: dict[str, int]
    default: Layer | None
    class_map: Layer | None
    collapsed: bool
    straight: frozenset[tuple[str, int]]
    hides: bool
    classes: int
    end: End
    activation_bytes: int
    size: tuple[int, int]
    outputs: Tensor
    random: bool = False
    rows: Dependence = field(default_factory=Dependence)

    def layer(self, requested: Layer | None, network: str) -> Layer:
        """Return the requested layer, or the default one, with its grid.

        Args:
            requested: the layer, or None.
            network: name of the network, for messages.

        Raises:
            BadInput: there is no default layer, or the positions of the requested one are not known.
        """
        known = ", ".join(f"{name} {self.layers[name]}" for name in list(self.layers)[-6:])
        if requested is None and self.default is None:
            remedy = f"give one of: {known}" if known else "it has no layers with outputs (N, C, h, w): use saliency"
            raise BadInput(f"layer: found no default target layer in {network}; {remedy}")
        if self.default is not None and (requested is None or str(self.default) == str(requested)):
            return self.default
        assert requested is not None
        if requested.name in self.without_grid:
            raise BadInput(
                f"layer {str(requested)!r}: expected a grid of positions on the image, got an output whose positions "
                f"are not known; give one of: {known}"
            )
        return replace(requested, grid=self.grids.get((requested.name, requested.call or 0)))

    @property
    def ends_in(self) -> EndsIn:
        """Kind of the network's outputs: logits, or probabilities that need no further softmax or sigmoid."""
        return self.end.kind


def outline(
    network: nn.Module, inputs: Tensor, unwrap: Callable[[Any], Tensor], modes: Sequence[TorchFunctionMode] = ()
) -> Outline:
    """Return the outline of a network, from one forward.

    Args:
        network: the network, borrowed and in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        unwrap: converts the network's output to (1, K).
        modes: modes that the forward runs in.
    """
    try:
        with torch.enable_grad():
            trace, start, outputs = observed(network, inputs, unwrap, (*modes, WithGraph()))
    except (RuntimeError, TypeError, ValueError):  # such as `.numpy()` of a tensor with a graph
        with torch.no_grad():
            trace, start, outputs = observed(network, inputs, unwrap, modes)
    if len(outputs) != 1 or not outputs.shape[1]:
        raise BadInput(
            f"model: expected logits (1, K) for one image, got {tuple(outputs.shape)}; return one row per image"
        )
    rearranged = trace.turned or trace.tokens or trace.channels_last
    grids = layouts(network, inputs) if rearranged else None
    layers, without_grid = _layers(trace, grids)
    end = trace.forward.end(outputs.detach())
    before = trace.forward.before(end, outputs.detach()) if end.kind != "logits" else None
    logits = outputs if before is None else before
    graph = paths(start, edge_of(outputs))
    last = _last_with_positions(trace, graph, outputs)
    class_map = last if last is not None and _is_class_map(trace.grids[last].detach(), logits.detach()) else None
    entered = last
    if last is not None and (class_map is not None or _holds_scores(last, trace.grids[last], logits)):
        entered = _before_convolution(trace, graph, last)
    default = None if entered is None else _named(trace, graph, entered)
    collapsed = last is not None and _is_collapsed(trace, graph, last)
    if grids and (default is None or not grids.get((default.name, default.call or 0), _PLAIN).is_plain):
        default, collapsed = _last_tokens(trace, graph, outputs, logits, grids)
    elif default is not None and default.name in without_grid:  # maps of a network whose places were lost before
        layers[default.name] = next(
            (*output.shape[1:],) for name, _, output, _ in trace.returned[::-1] if name == default.name
        )
        without_grid -= {default.name}
    last_output = {name: output for name, _, output, _ in trace.returned}
    return Outline(
        layers=layers,
        grids={place: grid for place, grid in (grids or {}).items() if not grid.is_plain},
        without_grid=without_grid,
        apart=frozenset(name for name, output in last_output.items() if output.ndim > 2 and len(output) != 1),
        calls=trace.calls,
        default=default,
        class_map=None if class_map is None else _named(trace, graph, class_map),
        straight=frozenset(trace.straight),
        hides=trace.hides,
        collapsed=collapsed,
        classes=outputs.shape[1],
        end=end,
        activation_bytes=trace.memory,
        size=(inputs.shape[2], inputs.shape[3]),
        outputs=outputs.detach(),
    )


def _layers(
    trace: Trace, grids: dict[tuple[str, int], Grid] | None
) -> tuple[dict[str, tuple[int, int, int]], frozenset[str]]:
    """Return the shapes (C, h, w) by module name, and the modules whose outputs have positions that are not known.

    The output of a convolution has the axes that the convolution gives it, wherever its positions are on the image.
    """
    layers: dict[str, tuple[int, int, int]] = {}
    unknown: set[str] = set()
    for name, call, output, _ in trace.returned:
        layers.pop(name, None)
        unknown.discard(name)
        if len(output) != 1 or output.ndim not in (3, 4):
            continue
        grid = grids.get((name, call)) if grids is not None else None
        if grid is not None and not grid.is_plain:
            layers[name] = grid.maps
        elif output.ndim == 4 and (grids is None or grid is not None or edge_of(output) in trace.convolved):
            layers[name] = (output.shape[1], output.shape[2], output.shape[3])
        else:
            unknown.add(name)
    return layers, frozenset(unknown)


def _last_tokens(
    trace: Trace, graph: Paths, outputs: Tensor, logits: Tensor, grids: dict[tuple[str, int], Grid]
) -> tuple[Layer | None, bool]:
    """Return the last tensor of tokens or channels last that carries all positions to the outputs, and if it collapsed.

    All of its positions, and nearly all channels, have a gradient, and no path from the positions to the outputs
    bypasses it. In a transformer that reads its class token, this is the input of the last attention: the positions
    after it have no gradient, and its queries have none at the positions. The output of a linear map, such as keys and
    values, is stepped over.
    """
    places = [
        (edge, output, grid)
        for name, call, output, version in trace.returned
        if (grid := grids.get((name, call))) is not None and output._version == version
        if (edge := edge_of(output)) is not None and edge[0] in graph.position
    ]
    collapsed, tries = False, 0
    found: list[tuple[Edge, Grid]] = []
    tokens = [place for place in places if not place[2].is_plain]
    gradients = _gradients([edge for edge, _, _ in tokens], outputs, _mixed(outputs))
    for (edge, output, grid), gradient in reversed(list(zip(tokens, gradients, strict=True))):
        if gradient is None or not _reaches_all(grid.of(gradient)):
            continue
        tries += edge not in graph.common
        if tries > _MOST_TRIES:
            break
        if edge not in graph.common and not _carries_all(edge, output, grid, places, graph, outputs):
            continue
        if grid.size == (1, 1):
            collapsed = True
        elif not _holds_scores(edge, grid.of(output), logits, grid):
            found.append((edge, grid))
            if edge not in trace.linear:
                break
    if not found:
        return None, False
    same = [edge for edge, grid in found if grid.size == found[0][1].size]
    name = _outermost(trace, same[-1])
    return replace(name, grid=grids[name.name, name.call or 0]), collapsed


def _reaches_all(gradient: Tensor) -> bool:
    """Return whether a gradient (1, C, h, w) reaches all positions, and nearly all channels."""
    reached = gradient[0] != 0
    return bool(reached.any(0).all()) and float(reached.flatten(1).any(1).float().mean()) > _MOST_CHANNELS


def _carries_all(
    edge: Edge, output: Tensor, grid: Grid, places: list[tuple[Edge, Tensor, Grid]], graph: Paths, outputs: Tensor
) -> bool:
    """Return whether the positions of a common tensor before an output have no gradient but through it.

    The tensor is the last one with a grid, or of the output's shape, as a residual stream before its norm.
    """
    known = {place: grid for place, _, grid in places}
    before = [common for common in graph.common if graph.position[common[0]] < graph.position[edge[0]]]
    nearest = before[-_NEAREST:][::-1]
    with cut(output):
        gradients = _gradients(nearest, outputs, _mixed(outputs))
    for common, gradient in zip(nearest, gradients, strict=True):
        if gradient is not None and gradient.shape == output.shape:
            return not bool(known.get(common, grid).of(gradient).any())
        if gradient is not None and common in known and known[common].size != (1, 1):
            return not bool(known[common].of(gradient).any())
    return False


def _last_with_positions(trace: Trace, graph: Paths, outputs: Tensor) -> Edge | None:
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
        if edge not in trace.grids or positions(trace.grids[edge], edge in trace.channels_last) == 1:
            continue
        if edge in trace.channels_last:
            return None
        if tokens is not None and not graph.is_direct(edge, tokens, trace.learned, trace.products):
            return None
        if edge not in trace.adapted and not _is_one_position(edge, outputs):
            return edge
    return None


def _is_collapsed(trace: Trace, graph: Paths, last: Edge) -> bool:
    """Return whether convolutions after a tensor end in a common tensor of one position that is pooled."""
    here = graph.position[last[0]]
    pooled = max((graph.position[edge[0]] for edge in graph.common if edge in trace.points), default=here)
    return any(here < graph.position.get(node, 0) <= pooled for node, _ in trace.convolved)


def _gradients(edges: list[Edge], outputs: Tensor, weights: Tensor) -> list[Tensor | None]:
    try:
        return gradients_at(edges, outputs, weights)
    except RuntimeError:  # no backward through it: the method that needs one says so
        return [None] * len(edges)


def _gradient(edge: Edge, outputs: Tensor, weights: Tensor) -> Tensor | None:
    return _gradients([edge], outputs, weights)[0]


def _mixed(outputs: Tensor) -> Tensor:
    """Return the weights (K,) of a sum of outputs in which they do not cancel."""
    return torch.linspace(1, 2, outputs.shape[1], device="cpu")


def _is_one_position(edge: Edge, outputs: Tensor) -> bool:
    """Return whether the outputs depend on a single position of a tensor (1, C, h, w)."""
    gradient = _gradient(edge, outputs, _mixed(outputs))
    return gradient is not None and int((gradient != 0).any(1).sum()) == 1


def _holds_scores(edge: Edge, tensor: Tensor, logits: Tensor, grid: Grid | None = None) -> bool:
    """Return whether each of several logits (1, K) depends on a channel of its own only, whatever pools it."""
    classes = logits.shape[-1]
    if logits.ndim != 2 or classes < 2 or tensor.shape[1] != classes:
        return False
    for row in torch.eye(classes, device="cpu")[[0, -1]]:
        gradient = _gradient(edge, logits, row)
        gradient = gradient if gradient is None or grid is None else grid.of(gradient)
        if gradient is None or not bool((gradient[0].flatten(1).abs().amax(1).cpu() > 0).eq(row > 0).all()):
            return False
    return True


def _is_class_map(activation: Tensor, logits: Tensor) -> bool:
    """Return whether an activation has one channel per class whose spatial mean is the logits, of any shape."""
    mean, expected = activation.mean((2, 3)).float(), logits.float().flatten(1)
    if mean.shape != expected.shape:
        return False
    return torch.allclose(mean, expected, rtol=1e-3, atol=1e-4 * max(1e-6, float(expected.abs().max())))


def _before_convolution(trace: Trace, graph: Paths, scores: Edge) -> Edge:
    """Return the input of the convolution that computed the class scores, or they if there is more between them."""
    before = graph.common[: graph.common.index(scores) + 1]
    learned = [graph.position[node] for node, _ in trace.learned if node in graph.position]
    computed = max((index for index, edge in enumerate(before) if edge in trace.convolved), default=0)
    seen = [edge for edge in before[:computed] if edge in trace.grids and graph.position[edge[0]] >= min(learned)]
    direct = graph.is_direct(before[computed], scores, trace.learned, trace.products)
    return seen[-1] if direct and seen else scores


def _named(trace: Trace, graph: Paths, entered: Edge) -> Layer | None:
    """Return the layer whose output is a common tensor, or the one before it, unless a learned map lies between."""
    before = graph.common[: graph.common.index(entered) + 1]
    while before and graph.is_direct(before[-1], entered, trace.learned, trace.products):
        edge = before.pop()
        if edge in trace.names and edge not in trace.adapted:
            return _outermost(trace, edge)
        if edge in trace.rectified and before and before[-1] in trace.names:
            return replace(_outermost(trace, before[-1], rectified=True), follow="relu")
    return None


def _outermost(trace: Trace, edge: Edge, rectified: bool = False) -> Layer:
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
