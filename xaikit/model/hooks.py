"""The probe: reads and changes a network while it runs. No other file registers hooks.

    record     keep a layer's output
    attach     cut the graph at a layer: the stem runs without a graph, gradients end at the layer
    replace    change a layer's output by a function, for tail re-runs and batch expansion
    watch      keep a layer's output and catch its gradient in the backward, without cutting the graph
    rule       replace a function such as relu by a rule, in modules and functional calls
    otherwise  replace all functions without a rule by another rule
    open       compute a function by calls that rules act on
    running    name the modules that are running
    graph      name the operations that no function call shows
    traced     pass every function call of a block through another function
    observe    call back after every module and every function call

    with Probe(network) as probe:
        tap = probe.attach(Layer("layer4"))
        logits = network(inputs)
        gradients, = torch.autograd.grad(score(logits), tap.activation)

Hooks exist only inside the `with` block. Rules and functional taps use a `TorchFunctionMode`, which sees in-place,
reused and functional calls one by one, so no class names are listed and no module is changed. Hooks and rules act only
on forwards of the thread that entered the block.

Scripted functions, an `autograd.Function` and compiled code run operations that are no function calls; graph.py finds
them. TorchScript modules take no hooks, so their layers cannot be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.calls import Around, Calls, OnFunction, Opened, Rule, version
from xaikit.model.graph import Graph, tensors_in
from xaikit.model.grids import Grid, plain

OnModule = Callable[[str, nn.Module, Any], None]
_THEN_RELU = " + relu"


@dataclass(frozen=True)
class Layer:
    """A layer of the network.

    Args:
        name: dotted module name.
        call: index of the call, for a module that runs several times; None if it runs once.
        follow: "relu" if the layer's activation is the functional ReLU of the module's output (DenseNet), which is
            written as `name + relu`.
        grid: layout of the layer's output; None for activation maps (N, C, h, w).
    """

    name: str
    call: int | None = None
    follow: Literal["", "relu"] = ""
    grid: Grid | None = field(default=None, repr=False)

    def to_grid(self, output: Tensor) -> Tensor:
        """Return the layer's output as activation maps (N, C, h, w)."""
        return plain(output) if self.grid is None else self.grid.of(output)

    def changed(self, output: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the layer's output with `function` of its maps (N, C, h, w) in their place; the rest is untouched."""
        maps = function(self.to_grid(output))
        return maps if self.grid is None else self.grid.put(maps, output)

    def __str__(self) -> str:
        name = self.name if self.call is None else f"{self.name}:{self.call}"
        return f"{name}{_THEN_RELU}" if self.follow else name


def parse_layer(text: str) -> Layer:
    """Return the layer written as `name` or `name:call`, each perhaps with " + relu" for the ReLU of its output."""
    name, _, call = text.removesuffix(_THEN_RELU).partition(":")
    if call and not call.isdigit():
        raise BadInput(f"layer: expected NAME or NAME:CALL with CALL a number, got {text!r}; for example relu:0")
    return Layer(name, int(call) if call else None, "relu" if text.endswith(_THEN_RELU) else "")


class _Reader:
    """The output of one layer in the latest forward.

    Args:
        layer: the layer.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._activation: Tensor | None = None

    @property
    def activation(self) -> Tensor:
        """The layer's output.

        Raises:
            BadInput: the forward did not reach the layer.
        """
        if self._activation is None:
            raise BadInput(_not_reached(self.layer))
        return self._activation


class Tap(_Reader):
    """The activation of one layer: a recorded copy (N, C, h, w), the attached raw output, or the replaced output."""

    def __init__(self, layer: Layer, module: nn.Module, use: Callable[[Tensor], tuple[Tensor, Tensor | None]]) -> None:
        super().__init__(layer)
        self.calls = 0
        self._module = module
        self._use = use
        self._kept: set[int] = set()
        self._given: list[tuple[Tensor, int]] = []
        self._passed: tuple[Tensor, int] | None = None
        self._replacement: Tensor | None = None

    @property
    def reached(self) -> bool:
        """Whether the forward has come to the layer."""
        return self._activation is not None

    def enter(self, args: tuple[Any, ...]) -> None:
        """Take the module's inputs."""
        self._given = [(tensor, version(tensor)) for tensor in tensors_in(args)]

    def fill(self, returned: Any, paused: Callable[[], AbstractContextManager[None]]) -> Tensor | None:
        """Take the layer's output; return its replacement, or None to keep it.

        The network may hold the output under another name (a hook or an attribute that keeps it, the input of a ReLU in
        place). So the output itself takes the replacement's values and graph, unless it is older than the call.
        """
        output = _checked(self.layer, returned)
        self._activation, replacement = self._use(output)
        if replacement is None:
            return None
        if any(_place(output) == _place(tensor) and number == version(tensor) for tensor, number in self._given):
            self._passed = output, version(output)
        elif replacement is not output and _place(output) not in self._kept and not isinstance(output, nn.Parameter):
            with suppress(RuntimeError), paused():  # tensors that cannot be written, such as expanded ones
                if replacement.requires_grad:
                    return output.copy_(replacement)
                output.data = replacement.clone()
                return output
        return replacement.clone()  # the network may write into what it gets

    def fill_copy(self, output: Tensor) -> Tensor:
        """Take the layer's output, which nothing else holds; return what the network gets, now and if it asks again."""
        if self._activation is None:
            self._activation, self._replacement = self._use(output)
        return output if self._replacement is None else self._replacement.clone()

    def reset(self) -> None:
        """Clear the state of the last forward, before the next."""
        self.check()
        self.calls = 0
        self._activation = self._replacement = None
        self._kept = {_place(tensor) for tensor in _held(self._module)}

    def check(self) -> None:
        """Check that the network has run as it was written.

        Raises:
            BadInput: it has written into a tensor that the layer passed on, which no replacement can follow.
        """
        passed, self._passed, self._given = self._passed, None, []
        if passed is not None and version(passed[0]) != passed[1]:
            raise BadInput(
                f"layer {str(self.layer)!r}: expected an output of its own, got its input, which is overwritten later; "
                "choose the layer before or after it"
            )


class Watch(_Reader):
    """A copy of the raw output of one layer, and its gradient after the backward."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.gradient: Tensor | None = None

    def see(self, output: Any) -> None:
        """Take an output; a checkpoint runs the layer twice, and only one of the outputs gets a gradient."""
        output = _checked(self.layer, output)
        if self._activation is None:
            self._activation = output.detach().clone()
        if output.requires_grad:
            output.register_hook(self._catch)

    def _catch(self, gradient: Tensor) -> None:
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


class Probe:
    """Hooks on one network for the duration of a `with` block.

    Args:
        network: the module that runs, already unwrapped from DataParallel.
        in_mode: whether a TorchFunctionMode begins before the network and ends behind it, inside the `with` block.
    """

    def __init__(self, network: nn.Module, *, in_mode: bool = False) -> None:
        self._network = network
        self._in_mode = in_mode
        self._modules = dict(network.named_modules(remove_duplicate=False))
        self._taps: list[Tap] = []
        self._handles: list[RemovableHandle] = []
        self._calls = Calls()
        self._around: Around | None = None
        self._attached: list[Layer] = []
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
        for tap in self._taps if kind is None else ():
            tap.check()

    def record(self, layer: Layer) -> Tap:
        """Return a tap that keeps a detached copy of the layer's output; its own calls are no part of the forward."""

        def keep(output: Tensor) -> tuple[Tensor, None]:
            with self._calls.paused():
                return layer.to_grid(output.detach().clone()), None

        return self._tap(layer, keep)

    def attach(self, layer: Layer) -> Tap:
        """Return a tap on the layer's output, at which backpropagation ends.

        In a borrowed network no weight requires a gradient, so the stem has no graph; the hook enables gradients from
        this layer on, even inside the network's own `torch.no_grad()`. A deeper layer attached in the same block stays
        connected to the shallower one. The activation is the raw output; apply `layer.to_grid` to it and its gradient.
        """

        def cut(output: Tensor) -> tuple[Tensor, Tensor]:
            self._begin_trace()
            torch.set_grad_enabled(True)
            activation = output if output.requires_grad else output.detach().clone().requires_grad_(True)
            return activation, activation

        self._attached.append(layer)
        return self._tap(layer, cut)

    def replace(self, layer: Layer, function: Callable[[Tensor], Tensor]) -> Tap:
        """Replace the layer's output with `function(output)`, which may have another batch size."""

        def change(output: Tensor) -> tuple[Tensor, Tensor]:
            changed = function(output)
            return changed, changed

        return self._tap(layer, change)

    def rule(self, functions: Iterable[Callable[..., Any]], rule: Rule) -> None:
        """Compute every call of `functions` as `rule(function, args, kwargs)`; `x.relu_()` still writes into x."""
        self._calls.rules.update(dict.fromkeys(functions, rule))
        self._use_calls()

    def otherwise(self, rule: Rule) -> None:
        """Compute every call of a function that has no rule as `rule(function, args, kwargs)`.

        Unlike a rule for named functions, this one writes the result of an in-place call itself.
        """
        self._calls.otherwise = rule
        self._use_calls()

    def open(self, function: Callable[..., Any], by: Opened) -> None:
        """Compute every call of `function` as `by(args, kwargs)`, whose calls rules act on; None leaves it as it is."""
        self._calls.opened[function] = by
        self._use_calls()

    def running(self) -> list[str]:
        """Return the names of the modules that are running, outermost first, in a list that follows the forward."""
        names: list[str] = []

        def enter(name: str) -> Callable[..., None]:
            def note(module: nn.Module, args: Any) -> None:
                names[:] = [*names, name] if name else [name]  # the network itself begins anew, as after an exception

            return note

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            names.pop()

        for name, module in self._network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                self._handles.append(module.register_forward_pre_hook(self._here(enter(name))))
                self._handles.append(module.register_forward_hook(self._here(leave), always_call=True))
        return names

    def graph(self) -> Graph:
        """Return the record of the autograd graph of a forward, which names the operations that no call shows."""
        self._calls.graph = Graph()
        self._use_calls()
        return self._calls.graph

    @contextmanager
    def traced(self, around: Around) -> Iterator[None]:
        """Compute every call within this block as `around(compute, function, args, kwargs)`, rules included.

        Where layers are attached, calls before the first of them pass by, as there is no graph, unless a mode begins in
        between, which must end before the trace.

        Raises:
            BadInput: the network calls the layer inside a mode of its own, whose end then ends the trace instead.
        """
        self._around = around
        if not self._attached or self._in_mode:
            self._begin_trace()
        try:
            yield
            if self._attached and self._calls.around is not None and not self._calls.takes_calls():
                raise BadInput(
                    f"layer {str(self._attached[0])!r}: expected to be called outside of a TorchFunctionMode, got it "
                    "inside one; choose a layer that is called after the mode's block"
                )
        finally:
            self._around = self._calls.around = None

    def _begin_trace(self) -> None:
        if self._around is not None:
            self._calls.around = self._around
            self._use_calls()

    def watch(self, layer: Layer) -> Watch:
        """Return the layer's output and, after a backward of the whole graph inside the block, its gradient.

        Raises:
            BadInput: the layer is one of several calls, which a checkpoint does not keep apart, or a functional ReLU.
        """
        if layer.call is not None or layer.follow:
            raise BadInput(
                f"layer {str(layer)!r}: expected a layer with a gradient, got none (no graph, or a checkpoint around "
                "one of several calls); turn checkpointing off, or choose another layer or a method without gradients"
            )
        watch = Watch(layer)

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            watch.see(output)

        self._handles.append(self._hookable(layer).register_forward_hook(self._here(hook)))
        return watch

    def observe(self, on_module: OnModule | None, on_function: OnFunction | None) -> None:
        """Call `on_module(name, module, output)` and `on_function(function, args, kwargs, output)` after each call."""
        if on_module is not None:
            for name, module in self._network.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                self._handles.append(module.register_forward_hook(self._here(_module_observer(name, on_module))))
        if on_function is not None:
            self._calls.observer = on_function
            self._use_calls()

    def _hookable(self, layer: Layer) -> nn.Module:
        """Return the module of a layer.

        Raises:
            NoSuchLayer: the network has no such module.
            BadInput: it is a TorchScript module.
        """
        if layer.name not in self._modules or not layer.name:
            raise NoSuchLayer(layer.name, [name for name in self._modules if name])
        module: nn.Module = self._modules[layer.name]
        if isinstance(module, torch.jit.ScriptModule):
            raise BadInput(
                f"layer {layer.name!r}: expected a module that takes hooks, got TorchScript; give the network before "
                "torch.jit, or choose a method without layers"
            )
        return module

    def _tap(self, layer: Layer, use: Callable[[Tensor], tuple[Tensor, Tensor | None]]) -> Tap:
        module = self._hookable(layer)
        tap = Tap(layer, module, use)

        def enter(module: nn.Module, args: Any) -> None:
            tap.enter(args)

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            call, tap.calls = tap.calls, tap.calls + 1
            if layer.call is None and call:
                raise BadInput(
                    f"layer {layer.name!r}: expected one call in a forward, got several; "
                    f"choose a call as {layer.name}:0, {layer.name}:1, ..."
                )
            if layer.call is not None and call != layer.call:
                return None
            if layer.follow == "relu":
                self._calls.awaited.append((output, tap, None))
                return None
            return tap.fill(output, self._calls.paused)

        self._handles.append(module.register_forward_pre_hook(self._here(enter)))
        self._handles.append(module.register_forward_hook(self._here(hook)))
        self._taps.append(tap)
        if layer.follow:
            self._use_calls()
        return tap

    def _begin(self, module: nn.Module, args: Any) -> None:
        """Reset all taps at the start of a forward, so that several forwards in one block do not add up."""
        self._calls.awaited.clear()
        for tap in self._taps:
            tap.reset()

    def _here(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return the hook, disabled for forwards of other threads."""
        return lambda *args: hook(*args) if threading.get_ident() == self._thread else None

    def _use_calls(self) -> None:
        if not self._calls.entered:
            self._calls.entered = True
            self._stack.enter_context(self._calls)


@contextmanager
def cut(tensor: Tensor) -> Iterator[list[Tensor]]:
    """Take the gradient at a tensor as zero in backwards within this block; yield a list that gets the true ones."""
    true: list[Tensor] = []

    def note(gradient: Tensor) -> Tensor:
        true.append(gradient)
        return torch.zeros_like(gradient)

    handle = tensor.register_hook(note)  # type: ignore[no-untyped-call]
    try:
        yield true
    finally:
        handle.remove()


def _module_observer(name: str, on_module: OnModule) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        on_module(name, module, output)

    return hook


def _held(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that a module and the modules inside it hold, also in containers."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name != "_modules" and not isinstance(value, bool | int | str):
                yield from tensors_in(value)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _not_reached(layer: Layer) -> str:
    call = f" {layer.call + 1} times" if layer.call is not None else ""
    return f"layer {str(layer)!r}: expected the forward to reach it{call}, it did not; choose another layer"


def _checked(layer: Layer, output: Any) -> Tensor:
    """Return a layer's output, if it is a tensor of floating-point numbers."""
    if not isinstance(output, Tensor):
        raise BadInput(
            f"layer {layer.name!r}: expected a tensor, got {type(output).__name__}; choose a layer inside it"
        )
    if not output.is_floating_point():
        raise BadInput(
            f"layer {layer.name!r}: expected floating-point numbers, got {output.dtype}; choose another layer, or a "
            "method without layers"
        )
    return output
