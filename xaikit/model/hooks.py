"""The probe: everything that looks into a network while it runs. No other file registers a hook.

    record     keep a layer's output
    attach     cut the graph at a layer: the stem runs without a graph, gradients end at the layer
    replace    let a function change a layer's output, for tail re-runs and batch expansion
    rule       compute a function such as relu by another rule, in modules and functional calls alike
    observe    tell a callback of every module and every function call

    with Probe(network) as probe:
        tap = probe.attach(Layer("layer4"))
        logits = network(inputs)
        gradients, = torch.autograd.grad(score(logits), tap.activation)

Hooks live inside the `with` block only. Rules and functional taps go through a `TorchFunctionMode`, which sees
in-place, reused and functional calls one by one, so no class names are listed and no module is changed. Both see the
forwards of their own thread alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.grids import grid
from xaikit.model.torch_functions import RELUS, writes

Rule = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
OnModule = Callable[[str, nn.Module, Any], None]
OnFunction = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None]


@dataclass(frozen=True)
class Layer:
    """A place in the network.

    Args:
        name: dotted module name.
        call: which call, for a module that runs several times; None where it runs once.
        follow: "relu" when the activation meant is the functional ReLU of the module's output (DenseNet).
        to_grid: turns the layer's output into (N, C, h, w).
    """

    name: str
    call: int | None = None
    follow: Literal["", "relu"] = ""
    to_grid: Callable[[Tensor], Tensor] = field(default=grid, repr=False)

    def __str__(self) -> str:
        return self.name if self.call is None else f"{self.name}:{self.call}"


def parse_layer(text: str) -> Layer:
    """Return the layer that `name` or `name:call` means."""
    name, _, call = text.partition(":")
    if call and not call.isdigit():
        raise BadInput(f"layer: expected NAME or NAME:CALL with CALL a number, got {text!r}; write for example relu:0")
    return Layer(name, int(call) if call else None)


class Tap:
    """One layer of the latest forward, filled while the network runs."""

    def __init__(self, layer: Layer, use: Callable[[Tensor], tuple[Tensor, Tensor | None]]) -> None:
        self.layer = layer
        self.calls = 0
        self._use = use
        self._activation: Tensor | None = None

    @property
    def activation(self) -> Tensor:
        """The layer's output: a copy as (N, C, h, w) when recorded, the gradient's end when attached, else the change.

        Raises:
            BadInput: the forward did not come past the layer.
        """
        if self._activation is None:
            call = f" {self.layer.call + 1} times" if self.layer.call is not None else ""
            raise BadInput(
                f"layer {str(self.layer)!r}: expected the forward to reach it{call}, it did not; choose another layer"
            )
        return self._activation

    def fill(self, output: Any) -> Tensor | None:
        """Take one output of the layer; return what the network should go on with, or None to leave it."""
        if not isinstance(output, Tensor):
            raise BadInput(
                f"layer {self.layer.name!r}: expected a tensor, got {type(output).__name__}; choose a layer inside it"
            )
        self._activation, replacement = self._use(output)
        return replacement

    def reset(self) -> None:
        """Forget the last forward."""
        self.calls = 0
        self._activation = None


class Probe:
    """Hooks on one network for the length of a `with` block.

    Args:
        network: the module that is run, already unwrapped from DataParallel.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._modules = dict(network.named_modules(remove_duplicate=False))
        self._taps: list[Tap] = []
        self._handles: list[RemovableHandle] = []
        self._functions = _Functions()
        self._stack = ExitStack()
        self._grad_mode = torch.is_grad_enabled()
        self._thread = threading.get_ident()

    def __enter__(self) -> Probe:
        self._grad_mode = torch.is_grad_enabled()
        self._thread = threading.get_ident()
        self._handles.append(self._network.register_forward_pre_hook(self._here(self._begin)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        torch.set_grad_enabled(self._grad_mode)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def record(self, layer: Layer) -> Tap:
        """Keep a detached copy of the layer's output."""
        return self._tap(layer, lambda output: (layer.to_grid(output.detach().clone()), None))

    def attach(self, layer: Layer) -> Tap:
        """Make the layer's output the place where gradients end.

        In a borrowed network no weight requires a gradient, so the stem has no graph; the hook switches gradients on
        from here, also inside the network's own `torch.no_grad()`. A deeper layer attached in the same block stays
        connected to the shallower one. The activation is the raw output; apply `layer.to_grid` to it and its gradient.
        """

        def cut(output: Tensor) -> tuple[Tensor, Tensor]:
            torch.set_grad_enabled(True)
            activation = output if output.requires_grad else output.detach().requires_grad_(True)
            return activation, activation.clone()

        return self._tap(layer, cut)

    def replace(self, layer: Layer, function: Callable[[Tensor], Tensor]) -> Tap:
        """Let the network go on with `function(output)`, which may have another batch size."""

        def change(output: Tensor) -> tuple[Tensor, Tensor]:
            changed = function(output)
            return changed, changed

        return self._tap(layer, change)

    def rule(self, functions: Iterable[Callable[..., Any]], rule: Rule) -> None:
        """Compute every call of `functions` as `rule(function, args, kwargs)`; an `x.relu_()` still changes x."""
        self._functions.rules.update(dict.fromkeys(functions, rule))
        self._use_functions()

    def observe(self, on_module: OnModule | None, on_function: OnFunction) -> None:
        """Call `on_module(name, module, output)` and `on_function(function, args, kwargs, output)` after each run."""
        if on_module is not None:
            for name, module in self._network.named_modules():
                self._handles.append(module.register_forward_hook(self._here(_module_observer(name, on_module))))
        self._functions.observer = on_function
        self._use_functions()

    def _tap(self, layer: Layer, use: Callable[[Tensor], tuple[Tensor, Tensor | None]]) -> Tap:
        if layer.name not in self._modules or not layer.name:
            raise NoSuchLayer(layer.name, [name for name in self._modules if name])
        tap = Tap(layer, use)

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            call, tap.calls = tap.calls, tap.calls + 1
            if layer.call is None and call:
                raise BadInput(
                    f"layer {layer.name!r}: expected one call in a forward, got several; "
                    f"give one of them as {layer.name}:0, {layer.name}:1, ..."
                )
            if layer.call is not None and call != layer.call:
                return None
            if layer.follow == "relu":
                self._functions.awaited.append((output, tap))
                return None
            return tap.fill(output)

        self._handles.append(self._modules[layer.name].register_forward_hook(self._here(hook)))
        self._taps.append(tap)
        if layer.follow:
            self._use_functions()
        return tap

    def _begin(self, module: nn.Module, args: Any) -> None:
        """Start a forward: several in one `with` block do not add up."""
        self._functions.awaited.clear()
        for tap in self._taps:
            tap.reset()

    def _here(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook that leaves the forwards of other threads alone."""

        def guarded(*args: Any) -> Any:
            return hook(*args) if threading.get_ident() == self._thread else None

        return guarded

    def _use_functions(self) -> None:
        if not self._functions.entered:
            self._functions.entered = True
            self._stack.enter_context(self._functions)


def _module_observer(name: str, on_module: OnModule) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        on_module(name, module, output)

    return hook


class _Functions(TorchFunctionMode):
    """Sees every torch function that runs; nested calls of one function are not seen again."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = False
        self.rules: dict[Callable[..., Any], Rule] = {}
        self.awaited: list[tuple[Tensor, Tap]] = []
        self.observer: OnFunction | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.awaited and func in RELUS:
            given = args[0] if args else kwargs.get("input")
            for place, (output, tap) in enumerate(self.awaited):
                if given is output:
                    del self.awaited[place]
                    rectified = torch.relu(output)
                    replacement = tap.fill(rectified)
                    found = rectified if replacement is None else replacement
                    return output.copy_(found) if writes(func) else found
        if func in self.rules:
            return self._ruled(self.rules[func], func, args, kwargs)
        result = func(*args, **kwargs)
        if self.observer is not None:
            self.observer(func, args, kwargs, result)
        return result

    def _ruled(self, rule: Rule, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply a rule; a function whose name says in place also writes the result into its argument."""
        if not (args and writes(func)):
            return rule(func, args, kwargs)
        return args[0].copy_(rule(func, (args[0].clone(), *args[1:]), kwargs))
