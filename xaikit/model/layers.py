"""The outline of a network: its layers, default layer and outputs, observed in one forward of one image.

    layers     every module whose output is (N, C, h, w), in the order of execution
    default    the tensor that enters the last global pooling or flattening, by its outermost useful name
    ends_in    logits, or probabilities that need no further softmax or sigmoid

How the default target layer is found, without using class names:
1. Take the last global pooling, adaptive pooling or flattening whose input has h*w > 1 positions; the poolings of
   squeeze-and-excite gates come earlier. In a chain of them (VGG: adaptive pooling, then flattening) take the first.
2. If its input already holds the class scores (SqueezeNet), step back to the input of the convolution before it.
3. If that tensor has several names, take the outermost module that does not contain every convolution before it:
   `layer4`, not `layer4.2`; `features.12`, not `features`. If the tensor is the functional ReLU of a module's output
   (DenseNet), take the outermost name of that output and keep the ReLU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.hooks import Layer, Probe, parse_layer
from xaikit.model.torch_functions import (
    ACTIVATIONS,
    ADAPTIVE_POOLS,
    CONVOLUTIONS,
    DROPOUTS,
    FLATTENS,
    GATES,
    MEANS,
    RELUS,
    Call,
    named,
)

EndsIn = Literal["logits", "softmax", "log-softmax", "sigmoid"]

_WINDOWS = named("avg_pool2d max_pool2d")
_TO_POINT = MEANS | _WINDOWS | named("amax")
_PASS = DROPOUTS | named("contiguous")
_SAME_VALUES = FLATTENS | _PASS | named("getitem unsqueeze float to")
_HEADS: dict[Call, EndsIn] = {
    **dict.fromkeys(named("softmax"), "softmax"),
    **dict.fromkeys(named("log_softmax"), "log-softmax"),
    **dict.fromkeys(named("sigmoid expit"), "sigmoid"),
}


@dataclass(frozen=True)
class Outline:
    """The structure of a network as observed in one forward.

    Args:
        layers: output shape (C, h, w) by module name in execution order; the last call of a reused module.
        calls: number of calls by module name.
        default: the default target layer, or None.
        class_map: the layer with one channel per class whose spatial mean is the logits, or None.
        classes: number of outputs K.
        ends_in: kind of the network's outputs.
        writes_input: whether the network writes into its input tensor.
        activation_bytes: memory of all module outputs for one image, in bytes.
        size: (H, W) of that image.
        outputs: (1, K) outputs for that image.
    """

    layers: dict[str, tuple[int, int, int]]
    calls: dict[str, int]
    default: Layer | None
    class_map: Layer | None
    classes: int
    ends_in: EndsIn
    writes_input: bool
    activation_bytes: int
    size: tuple[int, int]
    outputs: Tensor

    def bytes_at(self, size: Sequence[int]) -> int:
        """Return the memory of all activations for one image of `size` = (H, W), in bytes."""
        return int(self.activation_bytes * size[0] * size[1] / (self.size[0] * self.size[1]))


@dataclass
class _Trace:
    """The tensors of one forward; they are kept alive, so that an `id` identifies one tensor.

    `rectified`: tensors that a ReLU changed in place. `written`: number of names that a tensor had before it was last
    changed in place. `mixed`: the same before an operation other than an activation changed it, which makes all facts
    about the tensor invalid.
    """

    names: dict[int, list[str]] = field(default_factory=dict)
    rectified: set[int] = field(default_factory=set)
    written: dict[int, int] = field(default_factory=dict)
    mixed: dict[int, int] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)
    layers: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    poolings: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)
    source: dict[int, tuple[str, Tensor]] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)
    heads: dict[int, EndsIn] = field(default_factory=dict)
    before_head: dict[int, Tensor] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)
    memory: int = 0

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if isinstance(module, nn.Conv2d):
            self.convolutions.append(name)
        if not isinstance(output, Tensor):
            return
        self.alive.append(output)
        self.look(output)
        self.memory += output.nbytes
        self.names.setdefault(id(output), []).append(name)
        if output.ndim == 4 and name:
            self.layers.pop(name, None)
            self.layers[name] = (output.shape[1], output.shape[2], output.shape[3])

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not args or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
            return
        tensor = args[0]
        self.alive += [tensor, output]
        if output is tensor and function in ACTIVATIONS | GATES:
            self.versions[id(tensor)] = tensor._version
            self.written[id(tensor)] = len(self.names.get(id(tensor), []))
        self.look(tensor)
        self.look(output)
        head = _HEADS.get(function) or (self.heads.get(id(tensor)) if function in _SAME_VALUES else None)
        if head is not None:
            self.heads[id(output)] = head
            self.before_head[id(output)] = tensor if function in _HEADS else self.before_head[id(tensor)]
        if function in RELUS:
            if output is tensor:
                self.rectified.add(id(tensor))
            else:
                self.source[id(output)] = ("relu", tensor)
        elif function in CONVOLUTIONS:
            self.source[id(output)] = ("convolution", tensor)
        elif function in _PASS and output is not tensor:
            self.source[id(output)] = ("pass", tensor)
        elif tensor.ndim == 4 and tensor.shape[2] * tensor.shape[3] > 1 and _ends_space(function, output):
            self.poolings.append((tensor, output))
        elif function in _WINDOWS:
            self.source[id(output)] = ("pass", tensor)

    def look(self, tensor: Tensor) -> None:
        """Drop the facts about a tensor if an operation other than an activation has written into it or its view."""
        version = tensor._version
        if self.versions.setdefault(id(tensor), version) == version:
            return
        self.versions[id(tensor)] = version
        self.mixed[id(tensor)] = self.written[id(tensor)] = len(self.names.get(id(tensor), []))
        self.rectified.discard(id(tensor))
        self.source.pop(id(tensor), None)
        self.heads.pop(id(tensor), None)
        self.poolings = [(pooled, None if output is tensor else output) for pooled, output in self.poolings]


def _ends_space(function: Call, output: Tensor) -> bool:
    """Return whether this call removes the spatial axes, or is an adaptive pooling."""
    if function in ADAPTIVE_POOLS:
        return True
    to_point = output.ndim == 2 or (output.ndim == 4 and output.shape[2] * output.shape[3] == 1)
    return to_point and (function in _TO_POINT or (function in FLATTENS and output.ndim == 2))


def outline(network: nn.Module, inputs: Tensor, unwrap: Callable[[Any], Tensor]) -> Outline:
    """Return the outline of a network, from one forward.

    Args:
        network: the network, borrowed and in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        unwrap: converts the network's output to (1, K).
    """
    version = inputs._version
    trace = _Trace()
    with torch.no_grad(), Probe(network) as probe:
        probe.observe(trace.on_module, trace.on_function)
        outputs = unwrap(network(inputs))
    if len(outputs) != 1 or not outputs.shape[1]:
        raise BadInput(
            f"model: expected logits (1, K) for one image, got {tuple(outputs.shape)}; return one row per image"
        )
    trace.look(outputs)
    pooled = _pooled(trace)
    logits = trace.before_head[id(outputs)] if id(outputs) in trace.heads else outputs
    class_map = pooled if pooled is not None and _is_class_map(pooled, logits) else None
    entered = _before_convolution(trace, class_map) if class_map is not None else pooled
    return Outline(
        layers=trace.layers,
        calls=trace.calls,
        default=None if entered is None else _named(trace, entered),
        class_map=None if class_map is None else _named(trace, class_map),
        classes=outputs.shape[1],
        ends_in=trace.heads.get(id(outputs)) or _ends_in(outputs),
        writes_input=inputs._version != version,
        activation_bytes=trace.memory,
        size=(inputs.shape[2], inputs.shape[3]),
        outputs=outputs,
    )


def _ends_in(outputs: Tensor) -> EndsIn:
    """Recognise a hand-written softmax by its sum of 1; a sigmoid is recognised only by its call."""
    values, several = outputs.double(), outputs.shape[1] > 1
    tolerance = 1e-5 if outputs.dtype in (torch.float32, torch.float64) else 1e-2
    if several and bool((values > 0).all()) and abs(float(values.sum()) - 1) < tolerance:
        return "softmax"
    if several and abs(float(values.exp().sum()) - 1) < tolerance:
        return "log-softmax"
    return "logits"


def _pooled(trace: _Trace) -> Tensor | None:
    """Return the input of the last pooling or flattening; in a chain of them, that of the first."""
    if not trace.poolings:
        return None
    pooled = trace.poolings[-1][0]
    earlier = {id(output): tensor for tensor, output in trace.poolings if output is not None}
    while id(pooled) in earlier:
        pooled = earlier[id(pooled)]
    return pooled


def _is_class_map(activation: Tensor, logits: Tensor) -> bool:
    """Return whether an activation has one channel per class whose spatial mean is the logits, of any shape."""
    mean, expected = activation.mean((2, 3)).float(), logits.float().flatten(1)
    if mean.shape != expected.shape:
        return False
    return torch.allclose(mean, expected, rtol=1e-3, atol=1e-4 * max(1e-6, float(expected.abs().max())))


def _before_convolution(trace: _Trace, class_map: Tensor) -> Tensor:
    """Return the input of the convolution that computed the class map."""
    tensor = class_map
    while id(tensor) in trace.source:
        kind, tensor = trace.source[id(tensor)]
        if kind == "convolution":
            return tensor
    return class_map


def _named(trace: _Trace, tensor: Tensor) -> Layer | None:
    follow: Literal["", "relu"] = ""
    names = _names(trace, tensor)
    while not names:
        before = [name for name in trace.names.get(id(tensor), [])[trace.mixed.get(id(tensor), 0) :] if name]
        if before and id(tensor) in trace.written:
            follow, names = "relu" if id(tensor) in trace.rectified else follow, before
            continue
        kind, tensor = trace.source.get(id(tensor), ("", tensor))
        if kind in ("", "convolution"):
            return None
        follow = "relu" if kind == "relu" else follow
        names = _names(trace, tensor)
    useful = names if follow else [name for name in names if not _holds_all(name, trace.convolutions)]
    name = min(useful or names[:1], key=lambda text: text.count("."))
    calls = trace.calls[name]
    return Layer(name, calls - 1 if calls > 1 else None, follow)


def _names(trace: _Trace, tensor: Tensor) -> list[str]:
    """Return the names of the modules that returned a tensor after it was last changed in place."""
    return [name for name in trace.names.get(id(tensor), [])[trace.written.get(id(tensor), 0) :] if name]


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
