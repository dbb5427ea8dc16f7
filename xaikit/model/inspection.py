"""Inspection: forwards of one noise image that show a network's structure before any explanation.

Outlines          keep the outline of each size of pictures
look              return the network's outline, or raise a clear error if it cannot run on such an image
same_logits_in    check whether the network gives the same logits in another memory format
dependence        check whether an image's rows depend on the images beside or before it (rows.py)
is_random         check whether a forward draws random numbers, or gives other logits when it is repeated
"""

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xaikit.foundation.errors import BadInput, XaikitError, XaikitWarning
from xaikit.foundation.memory import out_of_memory
from xaikit.model.borrow import draws
from xaikit.model.build import Build, Facts
from xaikit.model.ends import End
from xaikit.model.function import BlackBox, Scripted
from xaikit.model.layers import Outline, outline
from xaikit.model.rows import Dependence, dependence, one_after_another
from xaikit.model.selection import Selection

_OF_DTYPES = ("scalar type", "Input type", "dtype")  # in torch's messages
_NATIVE_PROBE = (64, 64)
_MOST_SIZES = 64  # outlines kept
_FAR = 100.0  # factor of images that drive unbounded outputs out of [0, 1]
_CHANGE = 0.25  # change of an output by them, unless the network normalises or its outputs hardly vary
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
_ROUNDING_STEPS = 256  # largest change by another memory format, in rounding steps of the largest logit
_MOST_ROUNDING = 0.02  # upper limit of that change as a share of the largest logit, for half precision


class Outlines:
    """The outlines of one network by the size (H, W) of its pictures; true once a picture was looked at.

    The default layer is the last one with several positions, which depends on the size.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Outline] = {}
        self._at: tuple[int, int] | None = None
        self._build: Build | None = None

    def __bool__(self) -> bool:
        return bool(self._seen)

    @property
    def in_mode(self) -> bool:
        """Whether the network runs inside a TorchFunctionMode, by which the tensor before its end is found."""
        return any(seen.ends_in != "logits" for seen in self._seen.values())

    def built(self, network: nn.Module, before: Facts) -> None:
        """Take the build of a network that was looked at; `before` are its facts then."""
        self._build = Build(network, before, self._build)

    def forget_changed(self, network: nn.Module) -> bool:
        """Forget the outlines if the network was changed since, and return whether it was."""
        if not self._seen or self._build is None or self._build.is_of(network):
            return False
        self._seen.clear()
        return True

    def note_random(self) -> None:
        """Take the network as random, which its first forward did not show."""
        self._seen = {size: replace(seen, random=True) for size, seen in self._seen.items()}

    def note_mixing(self) -> None:
        """Take the network as mixing images, which two images of noise did not show."""
        self._seen = {size: replace(seen, rows=replace(seen.rows, mixes=True)) for size, seen in self._seen.items()}

    def known(self, seen: Outline) -> Outline:
        """Return the outline of another size with what the first one shows about randomness and batches."""
        first = next(iter(self._seen.values()))
        return replace(seen, random=first.random, rows=first.rows)

    def of(
        self, size: Sequence[int] | None, own: tuple[int, int] | None, look: Callable[[tuple[int, int]], Outline]
    ) -> Outline:
        """Return the outline for pictures of `size`.

        Args:
            size: (H, W); None is the size looked at, `own`, or 64 x 64.
            own: the classifier's own size, or None.
            look: callable that returns a new outline.

        Raises:
            BadInput: the network cannot run on such an image.
        """
        height, width = size or self._at or own or _NATIVE_PROBE
        if (height, width) not in self._seen:
            try:
                seen = look((height, width))
            except BadInput:
                if size or self._at or not self._seen:
                    raise
                return next(iter(self._seen.values()))  # of a network of fixed size, which a picture has shown
            if len(self._seen) >= _MOST_SIZES:
                del self._seen[next(iter(self._seen))]
            self._seen[height, width] = seen
        return self._seen[height, width]

    @contextmanager
    def looking_at(self, size: tuple[int, int]) -> Iterator[None]:
        """Take `size` as that of the pictures at hand within this block."""
        before, self._at = self._at, size
        try:
            yield
        finally:
            self._at = before


def inspect(
    network: nn.Module, inputs: Tensor, name: str, wanted: torch.memory_format | None, select: Selection
) -> tuple[Outline, torch.memory_format]:
    """Return the outline of a borrowed network and the memory format to run it in.

    Args:
        network: the network in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        name: name of the network, for messages.
        wanted: preferred memory format of the inputs, or None.
        select: converts the network's output to (N, K).

    Raises:
        BadInput: the network cannot run on such an image.
    """
    before = _random_states(inputs.device)
    first = _Draws()
    seen = look(network, inputs.clone(), name, select, [first])
    _warn_of_training(network)
    drawn = _random_states(inputs.device) != before or _goes_on(network, inputs, first)
    seen = replace(seen, end=replace(seen.end, bounded=_is_bounded(network, inputs, seen, select)))
    if not drawn:
        seen = replace(seen, rows=_dependence(network, inputs, seen, select))
    wanted = wanted if wanted is not None and _same_logits_in(wanted, network, inputs, seen, select) else None
    if wanted is None and not _same_logits_in(torch.contiguous_format, network, inputs, seen, select):
        drawn = True
    seen = replace(seen, random=drawn, rows=Dependence() if drawn else seen.rows)
    return seen, torch.contiguous_format if wanted is None else wanted


def _dependence(network: nn.Module, inputs: Tensor, seen: Outline, select: Selection) -> Dependence:
    """Return what depends on the other images of a batch, or that the network takes only one image."""

    def unwrap(output: Any) -> Tensor:
        return select(output, seen.classes)

    memory = False
    try:
        alone, memory = one_after_another(network, inputs, seen.outputs, unwrap)
        rows = dependence(network, inputs, alone, unwrap, branches=not isinstance(network, BlackBox))
    except _FAILURES as error:
        if out_of_memory(error):
            raise
        rows = Dependence(alone=True)
    hidden = isinstance(network, BlackBox | Scripted)
    return replace(rows, mixes=rows.mixes and not memory, hidden=hidden, remembers=memory)


def _random_states(device: torch.device) -> list[Any]:
    """Return the states of the global generators of Python, NumPy and torch, to be compared."""
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002 - the generator that networks use
    return [random.getstate(), np.asarray(keys).tolist(), position, *(state.tolist() for state in draws(device))]


class _Draws(TorchFunctionMode):
    """The generators that a forward draws from, wherever the network keeps them, and their states before."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[torch.Generator, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        generator = (kwargs or {}).get("generator")
        if isinstance(generator, torch.Generator):
            self._before.setdefault(generator, generator.get_state())
        return func(*args, **(kwargs or {}))

    @property
    def states(self) -> list[Any]:
        """The state of each generator before the forward drew from it."""
        return [state.tolist() for state in self._before.values()]


def _goes_on(network: nn.Module, inputs: Tensor, first: _Draws) -> bool:
    """Return whether the generators of a first forward go on in a second one, so that it draws other numbers.

    A forward that draws only the first time, such as noise that is kept, draws no other numbers.
    """
    if not first.states:
        return False
    with _Draws() as second:
        network(inputs.clone())
    return bool(second.states) and first.states != second.states


def _is_bounded(network: nn.Module, inputs: Tensor, seen: Outline, select: Selection) -> bool:
    """Return whether outputs that are taken as logits change, but stay in [0, 1], for images far from usual."""
    decided = seen.ends_in != "logits" or seen.end.only_bits or isinstance(network, BlackBox)
    if decided or not _within(seen.outputs):
        return False
    try:
        far = torch.cat([select(network(inputs * factor), seen.classes) for factor in (-_FAR, _FAR)])
    except _FAILURES as error:
        if out_of_memory(error):
            raise
        return False
    return _within(far) and bool((far - seen.outputs).abs().max() > _CHANGE)


def _within(outputs: Tensor) -> bool:
    """Return whether outputs lie in [0, 1], where they are numbers."""
    return bool((((outputs >= 0) & (outputs <= 1)) | outputs.isnan()).all())


def _warn_of_training(network: nn.Module) -> None:
    """Warn of a network that turns training mode on in its forward, so that its images depend on each other."""
    for part, module in network.named_modules():
        if getattr(module, "training", False):
            warnings.warn(
                f"network: its forward turns training mode on in {part or 'itself'!r}: BatchNorm takes statistics "
                "of the batch there and dropout is random; remove train() from the forward",
                XaikitWarning,
                stacklevel=4,
            )
            return


def warn_of_randomness(name: str) -> None:
    """Warn of a network whose forward is random in eval mode, so that its maps are too."""
    warnings.warn(
        f"{name} is random in eval mode: two forwards of one image may differ, and maps change from run to run (flag "
        "random-network); switch it off, as in F.dropout(x, training=self.training)",
        XaikitWarning,
        stacklevel=4,
    )


def look(
    network: nn.Module, inputs: Tensor, name: str, select: Selection, modes: Sequence[TorchFunctionMode] = ()
) -> Outline:
    """Return the outline of a borrowed network.

    Args:
        network: the network in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
        name: name of the network, for the message.
        select: converts the network's output to (N, K).
        modes: modes that the first forward runs in.

    Raises:
        BadInput: the network cannot run on such an image.
    """
    try:
        seen = outline(network, inputs, select, modes)
        none = End("logits", "logits", seen.classes)
        return replace(seen, end=none) if isinstance(network, BlackBox) else seen
    except _FAILURES as error:
        if isinstance(error, XaikitError) or out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [""]
        reason = " ".join(" ".join(lines[-1:] if "TorchScript" in lines[0] else lines).split())
        reason = reason.removeprefix(f"{type(error).__name__}: ")
        raise BadInput(
            f"network: expected {name} to run on an image {tuple(inputs.shape)}, got {type(error).__name__}: {reason}; "
            f"{_remedy(network, error)}"
        ) from error


def _remedy(network: nn.Module, error: Exception) -> str:
    """Return what to do about a network that fails on an image; a size helps only where shapes do not fit."""
    if (
        isinstance(network, Scripted)
        and any(words in str(error) for words in _OF_DTYPES)
        and next(network.parameters(), None) is None
    ):
        return "its weights are constants whose dtype cannot be read; freeze it in float32, or give it unfrozen"
    wanted = _required_arguments(network)
    if any(isinstance(module, nn.Conv3d | nn.Conv1d) for module in network.modules()):
        return "it has convolutions in one or three dimensions; only images (N, C, H, W) are explained"
    if len(wanted) > 1:
        others = ", ".join(f"{name}=self.{name}.expand(len(x), -1)" for name in wanted[1:])
        return (
            f"it takes {len(wanted)} inputs ({', '.join(wanted)}); wrap it in a module that takes the image alone and "
            f"holds the others: def forward(self, x): return self.network(x, {others})"
        )
    if isinstance(error, RuntimeError | ValueError | AssertionError):
        return "set size=(H, W) and channels= to what it takes, or run it on such an image to see where it stops"
    return "run it on such an image to see where it stops, and wrap it in a module that takes the image alone"


def _required_arguments(network: nn.Module) -> list[str]:
    """Return the names of the arguments without a default that the network's forward takes."""
    try:
        parameters = signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is Parameter.empty and one.kind not in several]


def _same_logits_in(
    memory_format: torch.memory_format, network: nn.Module, inputs: Tensor, seen: Outline, select: Selection
) -> bool:
    """Return whether a network runs in a memory format and gives the same logits in it, up to rounding."""
    try:
        outputs = select(network(inputs.clone(memory_format=memory_format)), seen.classes)
    except _FAILURES as error:
        if out_of_memory(error):
            raise
        return False
    rounding = min(_ROUNDING_STEPS * torch.finfo(outputs.dtype).eps, _MOST_ROUNDING)
    largest = float(seen.outputs.abs().max().nan_to_num())
    same_shape = outputs.shape == seen.outputs.shape
    return same_shape and torch.allclose(outputs, seen.outputs, rtol=0, atol=rounding * largest, equal_nan=True)


def warn_of_mixing(network: nn.Module, name: str, seen: Outline) -> None:
    """Warn of a network in which an image's logits depend on others, as in BatchNorm without statistics."""
    for module_name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            warnings.warn(
                f"network: expected BatchNorm with running statistics, got none in {module_name!r}: an image's logits "
                "depend on its batch (flag mixes-images); explain with chunk_size=1",
                XaikitWarning,
                stacklevel=3,
            )
            return
    if seen.rows.remembers:
        warnings.warn(
            f"{name} remembers the image that it saw before: its maps depend on the order of its forwards (flag "
            "remembers-images); reset or switch off its memory in eval mode",
            XaikitWarning,
            stacklevel=3,
        )
    told = any(getattr(module, "training", False) for module in network.modules())  # of training mode, the reason
    if seen.rows.mixes and not told:
        warnings.warn(
            f"{name} mixes the images of a batch: an image's logits and map depend on the others (flag mixes-images); "
            "explain with chunk_size=1",
            XaikitWarning,
            stacklevel=3,
        )
