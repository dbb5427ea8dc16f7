"""Rows: whether what a network gives for an image depends on the images beside it.

    the rows of two images in (a, b) and in (b, a) are compared with those of each alone
    mixes        the outputs differ: statistics or attention over the batch
    reordered    the outputs are the same, but a module's row differs: the images are sorted inside, and sorted back
    alone        two images fail or do not give two rows: the network is written for one image
    loops        modules run more often for two images: the network runs on each image by itself
    decides      the forward takes numbers of the image out of torch, as in `if sure.all(): return early`: what holds
                 for a batch need not hold for each of its images
    hidden       the forward of a plain function or of TorchScript does not show what it decides: the first batch of a
                 run is compared with some of its images alone
    remembers    an image has other outputs after another image than after itself

The images of `alone`, `loops` and `decides` are explained one by one.
Four small forwards show it for these images only; an effect below the rounding of the dtype, as far as the network
amplifies it, does not show.

Shapes: images (1, C, H, W); outputs (N, K).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xaikit.foundation.identity import generator
from xaikit.model.borrow import tensors
from xaikit.model.graph import tensors_in
from xaikit.model.hooks import Probe
from xaikit.model.torch_functions import BLANKS, named

_LEAVES_TORCH = named("bool item float int index tolist numpy array equal allclose is_nonzero contains")
_COUNTS = named("nonzero argwhere masked_select unique unique_consecutive")
"""Calls whose number of results depends on values."""
_SAMPLES = 64  # values per row that are compared
_ROUNDING_STEPS = 2**13  # largest change of an output by the size of the batch, in rounding steps of the largest
_LEAST_ON_GPU = 0.02  # GPUs may round to TF32
_MOST_ROUNDING = 0.1  # upper limit of that change as a share of the largest output, for half precision
_PIXEL_STEPS = 64  # rounding steps by which pixels move to see how much of its rounding a network amplifies
_MORE_ROUNDING = 16  # how much more than that its own rounding may be
_ANOTHER_ROW = 0.1  # change of a module's row, as a share of its largest value, that rounding does not explain


@dataclass(frozen=True)
class Dependence:
    """What depends on the other images of a batch.

    Args:
        mixes: whether the outputs do.
        reordered: names of the modules whose rows do although the outputs do not.
        alone: whether the network takes only one image at a time.
        loops: whether it runs its modules on each image by itself.
        decides: whether it branches on numbers of the image.
        hidden: whether decisions do not show.
        remembers: whether the outputs depend on the image that ran before.
    """

    mixes: bool = False
    reordered: frozenset[str] = frozenset()
    alone: bool = False
    loops: bool = False
    decides: bool = False
    hidden: bool = False
    remembers: bool = False

    @property
    def one_by_one(self) -> bool:
        """Whether images are explained one at a time."""
        return self.alone or self.loops or self.decides


@dataclass
class Rows:
    """Some values of each row that modules returned, by name and call, and the outputs."""

    of: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    decides: bool = False

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        """Keep some values of each row that a module returned."""
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        if isinstance(output, Tensor) and output.is_floating_point() and output.ndim > 1 and output.numel():
            values = output.detach().flatten(1)
            self.of[name, call] = values[:, :: max(1, values.shape[1] // _SAMPLES)].clone()


class _Decisions(TorchFunctionMode):
    """Whether a forward takes numbers that depend on the image out of torch, or lets them choose how many go on.

    A tensor depends on the image unless it is a weight or was computed from weights and constants.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.taken = False
        self._constant = {id(tensor): tensor for tensor in tensors(network)}  # kept, so that an id is one tensor

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in BLANKS or all(id(tensor) in self._constant for tensor in tensors_in((args, kwargs))):
            self._constant |= {id(tensor): tensor for tensor in tensors_in(output)}
            return output
        masked = func is Tensor.__getitem__ and any(tensor.dtype == torch.bool for tensor in tensors_in(args[1:]))
        self.taken |= masked or func in _COUNTS or (func in _LEAVES_TORCH and not isinstance(output, Tensor))
        for tensor in tensors_in((output, args[:1] if func is Tensor.__setitem__ else ())):
            self._constant.pop(id(tensor), None)
        return output


def one_after_another(
    network: nn.Module, image: Tensor, outputs: Tensor, unwrap: Callable[[Any], Tensor]
) -> tuple[list[Rows], bool]:
    """Return the rows of two images alone, and whether one has other outputs after the other than after itself.

    Args:
        network: the network, borrowed, in eval mode and not random; the image ran last.
        image: (1, C, H, W) in the network's coordinates.
        outputs: (1, K) outputs of that image, as the first one or after itself.
        unwrap: converts the network's output to (N, K).
    """
    another = _another_image(image)
    first = _rows(network, [another], unwrap)
    with torch.no_grad():
        second = unwrap(network(another.clone())).clone()
    last = _rows(network, [image], unwrap)
    pairs = (first.outputs, second), (last.outputs, outputs)
    return [last, first], any(_is_another(row, expected, _tolerance(expected)) for row, expected in pairs)


def dependence(
    network: nn.Module, image: Tensor, alone: list[Rows], unwrap: Callable[[Any], Tensor], *, branches: bool = True
) -> Dependence:
    """Return what depends on the other images of a batch, from forwards of two images together and alone.

    Args:
        network: the network, as in `one_after_another`.
        image: (1, C, H, W) in the network's coordinates.
        alone: rows of that image and the other one.
        unwrap: converts the network's output to (N, K).
        branches: whether numbers that leave torch may be branched on.
    """
    images = [image, _another_image(image)]
    if branches and any(rows.decides for rows in alone):
        return Dependence(decides=True)
    pairs = [(_rows(network, [images[i] for i in order], unwrap), order) for order in ([1, 0], [0, 1])]
    if any(len(rows.outputs) != 2 for rows, _ in pairs):
        return Dependence(alone=True)
    loops = any(rows.calls != single.calls for rows, _ in pairs for single in alone)
    tolerance = _tolerance(alone[0].outputs)
    beside = [(rows, row, alone[i]) for rows, order in pairs for row, i in enumerate(order)]
    if any(_is_another(rows.outputs[row], single.outputs[0], tolerance) for rows, row, single in beside):

        def run(image: Tensor) -> Tensor:
            return _rows(network, [image], unwrap).outputs

        rounding = max(_change(run, each, rows.outputs) for each, rows in zip(images, alone, strict=True))
        tolerance = max(tolerance, _MORE_ROUNDING * rounding)  # a network that is steep, or whose outputs cancel
        if any(_is_another(rows.outputs[row], single.outputs[0], tolerance) for rows, row, single in beside):
            return Dependence(mixes=True, loops=loops)
    moved = {
        name
        for rows, row, single in beside
        for (name, call), values in single.of.items()
        if len(values) == 1 and len(rows.of.get((name, call), values)) == 2
        if _is_another(rows.of[name, call][row], values[0], _ANOTHER_ROW)
    }
    return Dependence(reordered=frozenset(moved - {""}), loops=loops)


def _another_image(image: Tensor) -> Tensor:
    """Return an image with another mean, spread and quantiles within the same range."""
    return 0.2 * image.flip(-1) + 0.8 * image.abs().max()


def _tolerance(outputs: Tensor) -> float:
    tolerance = min(_ROUNDING_STEPS * torch.finfo(outputs.dtype).eps, _MOST_ROUNDING)
    return max(tolerance, _LEAST_ON_GPU) if outputs.is_cuda else tolerance


def are_mixed(run: Callable[[Tensor], Tensor], inputs: Tensor, logits: Tensor, arithmetic: torch.dtype) -> bool:
    """Return whether the surest or the least sure image of a batch has other logits alone.

    Args:
        run: callable from inputs to logits.
        inputs: (N, C, H, W) in the network's coordinates.
        logits: (N, K) of these inputs.
        arithmetic: dtype that the network computes in.
    """
    sure = logits.softmax(1).amax(1)
    tolerance = _tolerance(logits.to(arithmetic))
    for row in {int(sure.argmin()), int(sure.argmax())}:
        image, expected = inputs[row : row + 1], run(inputs[row : row + 1])
        if _is_another(logits[row], expected[0], tolerance):
            amplified = _MORE_ROUNDING * _change(run, image, expected)
            if _is_another(logits[row], expected[0], amplified):
                return True
    return False


def _rows(network: nn.Module, images: list[Tensor], unwrap: Callable[[Any], Tensor]) -> Rows:
    rows = Rows()
    with torch.no_grad(), Probe(network) as probe:
        probe.observe(rows.on_module, None)
        given = torch.cat(images)
        with _Decisions(network) as decisions:
            rows.outputs = unwrap(network(given)).detach().clone()
        rows.decides = decisions.taken
    return rows


def _change(run: Callable[[Tensor], Tensor], image: Tensor, outputs: Tensor) -> float:
    """Return the change of the outputs, as a share of the largest, when each pixel moves by some rounding steps."""
    steps = torch.randn(image.shape, generator=generator(0, "rows"), device="cpu").to(image)
    moved = image * (1 + _PIXEL_STEPS * torch.finfo(image.dtype).eps * steps)
    change = (run(moved) - outputs).abs().max()
    return float(change / outputs.abs().max().clamp_min(torch.finfo(outputs.dtype).tiny))


def _is_another(row: Tensor, expected: Tensor, tolerance: float) -> bool:
    if row.shape != expected.shape:
        return False  # rows that are not images, such as parts of them
    largest = float(expected.abs().max())
    finite = math.isfinite(largest)  # other outputs are refused where they are used
    return finite and not torch.allclose(row, expected, rtol=0, atol=tolerance * largest)
