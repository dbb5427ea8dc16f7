"""FullGrad: a complete decomposition of the score into input gradient and bias gradients.

    score = sum x (*) G_x + sum_l sum b_l (*) G_l           G_l = d score / d (output of call l)
    map   = psi(x (*) G_x) + sum_l sum_k psi(b_l (*) G_l)
    psi   = |.|, min-max per image and layer over all channels together, bilinear to the image

In words: In a network of linear layers and ReLUs, the score is the sum of what the pixels and all biases contribute
through their gradients. The map adds the absolute contributions of all layers, each scaled to [0, 1], and so joins fine
detail of early layers with coarse regions of late ones. It has no sign: support and opposition look alike, and often
maps of different classes too. After the scaling the values do not add up to the score. Tokens of transformers are not
in the map.

b_l is the bias of a convolution, or beta - mean * gamma / sqrt(var + eps) for a BatchNorm. Any other call that is not
linear has an implicit bias f(x) - J x (implicit_bias.py): SiLU, GELU, LayerNorm, sigmoid gates, attention. A linear
layer on a grid with its channels last, (N, h, w, C), is a 1x1 convolution. Biases at a single position, and those of
outputs without a known grid, such as tokens, count in the completeness and not in the map. The gap is rounding, but for
calls without a second derivative; an image whose gap exceeds 1 % of the score gets the flag `incomplete`. Implicit
biases take time beside the declared passes: two to three times as long as saliency in ConvNeXt, ViT and EfficientNet.

scaling "layer"    as above, the authors' code
scaling "channel"  min-max per channel, as pytorch-grad-cam does, so that all channels have equal weight

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) >= 0.
Source: Srinivas & Fleuret, NeurIPS 2019, eq. 2-5 and section 3.1, arXiv:1905.00780, and the authors' code for psi.
Departs from source: min-max without the constant 1e-6 in its denominator, so that the unit of the score has no effect;
    channels are summed before resizing, which is linear and, as in the authors' code, uses align_corners=True; the
    authors' code leaves out implicit biases, which are zero in their networks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from xaikit.foundation.errors import BadInput
from xaikit.methods.activation.implicit_bias import implicit_bias
from xaikit.methods.base import METHODS, Method, Values
from xaikit.model.hooks import Layer
from xaikit.model.layers import Outline
from xaikit.model.torch_functions import (
    ACTIVATIONS,
    BATCH_NORMS,
    DROPOUTS,
    GATES,
    LINEARS,
    MOVES,
    named,
    overwrites,
    writes,
)
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Callback = Callable[[Tensor, Tensor, int | None], None]

_LARGEST_GAP = 0.01  # largest gap without the flag `incomplete`, as a share of the score
_AXIS = "axis of the channels"  # in the metadata of the graph
_ROUNDING = 1e-5  # the same as a share of all contributions, where they cancel


@METHODS.register
@dataclass(frozen=True)
class FullGrad(Method):
    """Sum of input times gradient and of bias times gradient over all layers, each scaled by min-max.

    Args:
        scaling: min-max per "layer" or per "channel".
    """

    scaling: Literal["layer", "channel"] = "layer"

    name = "full-grad"
    family = "activation"
    source = "Srinivas & Fleuret, NeurIPS 2019, arXiv:1905.00780"
    signed = False
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 1)

    def compute(self, batch: Batch) -> Values:
        """Return the map (n, H, W) and the completeness gap of the decomposition."""
        batch.check_rows(None)
        _check_layers(batch)
        sums = _Sums(len(batch), self.scaling)
        layer = _last_layer(batch.classifier.outline())
        with batch.classifier.probe() as probe:
            graph = probe.graph()
            if layer is not None:
                batch.places.watch(probe, [probe.record(layer)])
            probe.rule(_BIASED, lambda function, args, kwargs: _observed(function, args, kwargs, sums.add_bias))
            probe.otherwise(lambda function, args, kwargs: _otherwise(function, args, kwargs, sums.add_bias))
            gradient = batch.input_gradients_anew(probe, graph)
            graph.refuse_hidden(None, self.name, "use saliency, which needs no biases")
        if not bool(gradient.any()):
            gradient = batch.input_gradients  # refuses a network without a gradient
        sums.add(batch.inputs * gradient)
        maps = torch.stack([_resized(maps, batch.size) for maps in sums.maps.values()]).sum(0)
        gap = sums.total - batch.scores
        missed = gap.abs() > _LARGEST_GAP * batch.scores.abs() + _ROUNDING * sums.size
        flags: list[set[str]] = [{"incomplete"} if flagged else set() for flagged in missed.tolist()]
        for names, mark in zip(flags, batch.places.misplaced(layer) if layer is not None else [], strict=False):
            names.update({"misplaced-grid"} if mark else set())
        return Values(maps, completeness=gap, flags=flags, diagnostics={"promised": batch.scores})


def _check_layers(batch: Batch) -> None:
    """Check that the first axis of every layer with a bias is the images, also where the lengths agree by chance.

    Raises:
        BadInput: it is not.
    """
    module, apart = batch.classifier.module, batch.classifier.outline(batch.size).apart
    biased = [name for name in sorted(apart) if getattr(module.get_submodule(name), "bias", None) is not None]
    if biased:
        raise BadInput(
            f"full-grad: expected {len(batch)} rows at every layer with a bias, got another first axis in "
            f"{biased[0]!r}: the network cuts images into parts, or has another axis before them; use another method"
        )


def _last_layer(seen: Outline) -> Layer | None:
    """Return the default layer, or without one the last that has several positions; its grid stands for all of them.

    The call is named, because a checkpoint runs the layer again.
    """
    last = next((name for name, shape in reversed(seen.layers.items()) if shape[1] * shape[2] > 1), None)
    if seen.default is not None:
        return replace(seen.default, call=seen.default.call or 0)
    return None if last is None else seen.layer(Layer(last, seen.calls[last] - 1), "")


@dataclass
class _Sums:
    """Sums of the scaled maps (n, h, w) by size, of all contributions (n,), and of their absolute values by layer."""

    images: int
    scaling: str
    maps: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    total: Tensor | float = 0.0
    size: Tensor | float = 0.0

    def add_bias(self, bias: Tensor, gradient: Tensor, channels: int | None) -> None:
        """Add one call's bias, shaped to broadcast, times the gradient of its output (m, ...).

        Args:
            bias: the bias.
            gradient: gradient of the score by the output.
            channels: the axis of the channels, 1 or -1; None where the output has no grid.

        Raises:
            BadInput: the layer does not have one row per image.
        """
        product = gradient * bias
        if len(product) != self.images:
            raise BadInput(
                f"full-grad: expected {self.images} rows at every layer with a bias, got {len(product)}: the network "
                "cuts images into parts; use another method"
            )
        product = product if channels is None else product.movedim(channels, 1)
        if channels is not None and product.ndim == 4 and product[0, 0].numel() > 1:
            self.add(product)
        else:
            self._add_total(product)

    def add(self, product: Tensor) -> None:
        """Scale |product| (n, C, h, w) by min-max and add its channels to the map of its size."""
        self._add_total(product)
        magnitude = product.abs()
        axes = (1, 2, 3) if self.scaling == "layer" else (2, 3)
        low, high = magnitude.amin(axes, keepdim=True), magnitude.amax(axes, keepdim=True)
        scaled = ((magnitude - low) / torch.where(high > low, high - low, 1)).sum(1)
        size = tuple(product.shape[2:])
        self.maps[size] = self.maps[size] + scaled if size in self.maps else scaled

    def _add_total(self, product: Tensor) -> None:
        total = product.flatten(1).sum(1).to(torch.promote_types(product.dtype, torch.float32))
        self.total, self.size = self.total + total, self.size + total.abs()


class _Observe(torch.autograd.Function):
    """The identity, which passes its gradient to a callback in the backward."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, callback: Callable[[Tensor], None]) -> Tensor:
        ctx.callback = callback
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.callback(gradient)
        return gradient, None


_CONVOLUTIONS = named("conv2d")
_BIASED = _CONVOLUTIONS | LINEARS | BATCH_NORMS
_CHANNELS_FIRST = _CONVOLUTIONS | BATCH_NORMS | named("group_norm instance_norm")
_NORMALISED_SHAPE = named("layer_norm rms_norm")
_MIXED = named("matmul mm bmm einsum") | MOVES - named("contiguous clone to float double half bfloat16") - DROPOUTS
"""Calls whose output may have other axes than their arguments."""


def _observed(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], callback: Callback
) -> Tensor:
    """Return the output of a convolution, a BatchNorm or a linear layer, whose bias is known.

    The backward calls `callback(bias, gradient, axis of the channels)` if there is one.
    """
    output: Tensor = function(*args, **kwargs)
    bias = _normalisation_bias(function, args, kwargs) if function in BATCH_NORMS else _bias(args, kwargs)
    channels_last = function in LINEARS
    unbatched = output.ndim == (1 if channels_last else 3) and function not in BATCH_NORMS
    if bias is not None:
        axes = 2 if function in _CONVOLUTIONS else output.ndim - 2
        shaped = bias.detach() if channels_last else bias.detach().reshape(1, -1, *[1] * axes)
        channels = -1 if channels_last else 1
        output = _Observe.apply(
            output, lambda gradient: callback(shaped, gradient[None] if unbatched else gradient, channels)
        )
    _note_channels(_channels(function, args, kwargs, output), output)
    return output


def _otherwise(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], callback: Callback) -> Any:
    """Return the result of any other call; the backward calls `callback` as above if it has an implicit bias."""
    bias = implicit_bias(function, args, kwargs)
    if bias is None:
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            _note_channels(_channels(function, args, kwargs, result), result)
        return result
    written = args[0] if args and _writes(function, args, kwargs) else None
    given = args if written is None else (written.clone(), *args[1:])
    result = function(*given, **kwargs)
    output = given[0] if result is None else result[0] if isinstance(result, tuple) else result
    channels = _channels(function, args, kwargs, output)
    images = 1 if function is F.multi_head_attention_forward and bias.ndim == 3 else 0  # the axis of the images
    output = _Observe.apply(
        output, lambda gradient: callback(bias.movedim(images, 0), gradient.movedim(images, 0), channels)
    )
    if written is not None:
        output = written.copy_(output)
    _note_channels(channels, output)
    return (output, *result[1:]) if isinstance(result, tuple) else output


def _writes(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call writes into its first argument."""
    operator = function.__name__.startswith("__i") or function.__name__ == "__setitem__"
    activation = function in ACTIVATIONS | GATES and overwrites(function, args, kwargs)
    return writes(function) or operator or activation or kwargs.get("inplace") is True


def _note_channels(channels: int | None, output: Tensor) -> None:
    """Note on the graph which axis of an output is that of the channels, if it is known."""
    if channels is not None and output.grad_fn is not None:
        _metadata(output)[_AXIS] = channels


def _channels(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> int | None:
    """Return the axis of the channels, 1 or -1, of an output (n, ...) of four axes; None where it is not known."""
    if output.ndim != 4 or function in _MIXED:
        return None
    if function in _CHANNELS_FIRST or function in LINEARS:
        return -1 if function in LINEARS else 1
    if function in _NORMALISED_SHAPE:
        return {1: -1, 3: 1}.get(len(kwargs.get("normalized_shape", args[1:2] and args[1])))
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim == 4]
    known = {_metadata(leaf).get(_AXIS) for leaf in leaves if leaf.grad_fn is not None}
    return known.pop() if len(known) == 1 else None


def _metadata(tensor: Tensor) -> dict[str, int]:
    """Return what is noted on the node of the graph that made a tensor."""
    node: Any = tensor.grad_fn
    noted: dict[str, int] = node.metadata
    return noted


def _bias(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    bias: Tensor | None = kwargs.get("bias", args[2] if len(args) > 2 else None)
    return bias


def _normalisation_bias(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the constant term (C,) of a BatchNorm: beta - mean * gamma / sqrt(var + eps)."""
    order = ("input", "running_mean", "running_var", "weight", "bias")
    if function is torch.batch_norm:
        order = ("input", "weight", "bias", "running_mean", "running_var")
    arguments = dict(zip(order, args, strict=False)) | kwargs
    bias: Tensor | None = arguments.get("bias")
    if arguments["running_mean"] is None:
        return bias
    eps = kwargs.get("eps", args[7] if len(args) > 7 else 1e-5)
    scale = (arguments["running_var"] + eps).rsqrt() * (1.0 if arguments.get("weight") is None else arguments["weight"])
    shift: Tensor = arguments["running_mean"] * scale
    return -shift if bias is None else bias - shift


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]
