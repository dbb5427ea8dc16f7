"""The trace: what one forward of one image shows, by edge of the autograd graph (paths.py)."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xaikit.model.addresses import moves
from xaikit.model.ends import Forward
from xaikit.model.hooks import Probe
from xaikit.model.origins import Origins
from xaikit.model.paths import Edge, edge_of, is_custom
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
_TURNS = named("permute transpose swapaxes swapdims movedim moveaxis t einsum")
_POOLS = ADAPTIVE_POOLS | MEANS | MEAN_POOLS | MAX_POOLS


@dataclass
class Trace:
    """What one forward showed, by edge of the autograd graph.

    `names`: modules that returned the tensor, with the number of the call. `grids`: tensors (1, C, h, w). `tokens`:
    tensors (1, T, C). `learned`: outputs of maps by constants, such as weights, at several positions. `points`: tensors
    of one position that are pooled. `straight`: calls of modules up to which no call moves values, whatever the image.
    `hides`: whether hidden code makes some of the tensors (origins.py).
    """

    names: dict[Edge, list[tuple[str, int]]] = field(default_factory=dict)
    grids: dict[Edge, Tensor] = field(default_factory=dict)
    tokens: set[Edge] = field(default_factory=set)
    learned: set[Edge] = field(default_factory=set)
    linear: set[Edge] = field(default_factory=set)
    convolved: set[Edge] = field(default_factory=set)
    products: set[Edge] = field(default_factory=set)
    channels_last: set[Edge | None] = field(default_factory=set)
    rectified: set[Edge] = field(default_factory=set)
    adapted: set[Edge] = field(default_factory=set)
    moved: set[Edge] = field(default_factory=set)
    points: set[Edge] = field(default_factory=set)
    turned: bool = False
    straight: set[tuple[str, int]] = field(default_factory=set)
    strayed: bool = False
    hides: bool = False
    returned: list[tuple[str, int, Tensor, int]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)
    memory: int = 0
    forward: Forward = field(default_factory=Forward)

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        """Note what a module returned."""
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        self.straight.update(() if self.strayed else {(name, call)})
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

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note what a function computed."""
        self.strayed = self.strayed or moves(function, args, kwargs, output)
        if not args or not isinstance(output, Tensor):
            return
        edge = self.see(output)
        self.turned |= function in _TURNS
        if edge is not None and output.ndim == 4:
            self.note_channels(function, args, output, edge)
        if edge is not None and function in RELUS:
            self.rectified.add(edge)
        if edge is not None and function in ADAPTIVE_POOLS:
            self.adapted.add(edge)
        if edge is not None and function in LINEARS:
            self.linear.add(edge)
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
        if edge is not None and function in _POOLS and tensor.ndim == 4 and positions(tensor) == 1:
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


def observed(
    network: nn.Module, inputs: Tensor, unwrap: Callable[[Any], Tensor], modes: Sequence[TorchFunctionMode] = ()
) -> tuple[Trace, Edge | None, Tensor]:
    """Return what a forward inside some modes showed, the edge of the image and the outputs (1, K).

    Modes that are entered after the probe do not see the calls of its observers, which are many.
    """
    trace = Trace()
    image = inputs.detach().clone().requires_grad_(True)
    given = image.clone()  # not a leaf: a network may write into its input
    start, origins = edge_of(given), Origins(network, given)

    def on_function(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        origins.on_function(function, args, kwargs, output)
        trace.on_function(function, args, kwargs, output)

    with Probe(network) as probe:
        probe.observe(trace.on_module, on_function)
        with ExitStack() as stack:
            for mode in (*modes, trace.forward):
                stack.enter_context(mode)
            outputs = unwrap(network(given))
        origins.use(outputs)
    if origins.unknown:
        other = 0.5 * image.flip(-1) + 0.3
        others = Origins(network, other)
        with Probe(network) as probe:
            probe.observe(None, others.on_function)
            with ExitStack() as stack:
                for mode in modes:
                    stack.enter_context(mode)
                others.use(unwrap(network(other)))
        trace.hides = origins.differ(others)
    trace.settle()
    return trace, start, outputs


def positions(tensor: Tensor, channels_last: bool = False) -> int:
    """Return the number of positions of a tensor (1, C, h, w), or (1, h, w, C); 1 for any other."""
    return tensor[0, ..., 0].numel() if channels_last else tensor[0, 0].numel() if tensor.ndim == 4 else 1


def _is_spread(tensor: Tensor) -> bool:
    """Return whether a tensor has several positions, in a grid (1, C, h, w) or in tokens (1, T, C) or (1, C, T)."""
    return positions(tensor) > 1 or (tensor.ndim == 3 and len(tensor) == 1 and min(tensor.shape[1:]) > 1)
