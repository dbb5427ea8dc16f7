"""FullGrad: the score, split completely into input gradient and bias gradients.

    score = sum x (*) G_x + sum_l sum b_l (*) G_l           G_l = d score / d (output of layer l)
    map   = psi(x (*) G_x) + sum_l sum_k psi(b_l (*) G_l)
    psi   = |.|, min-max per image and layer over all channels together, bilinear to the image

b_l is the bias of a convolution, or of a BatchNorm beta - mean * gamma / sqrt(var + eps). Biases of linear maps have no
place in the image: they count in the completeness, not in the map. The gap is what other operations add (LayerNorm,
SiLU, sigmoid gates).

scaling "layer"    as above, the authors' code
scaling "channel"  min-max per channel, as pytorch-grad-cam does: every channel then weighs the same

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) >= 0.
Source: Srinivas & Fleuret, NeurIPS 2019, eq. 2-5, arXiv:1905.00780, and the authors' code for psi.
Departs from source: nothing; channels are summed before the resizing, which is linear. As in the authors' code it has
    align_corners=True.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.methods.base import METHODS, Method, Values
from xaikit.model.torch_functions import BATCH_NORMS, LINEARS, named
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_EPSILON = 1e-6


@METHODS.register
@dataclass(frozen=True)
class FullGrad(Method):
    """Input times gradient and bias times gradient of every layer, each scaled and added up.

    Args:
        scaling: whether the range of a layer or of each channel is brought to one.
    """

    scaling: Literal["layer", "channel"] = "layer"

    name = "full-grad"
    family = "activation"
    source = "Srinivas & Fleuret, NeurIPS 2019, arXiv:1905.00780"
    signed = False
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the map (n, H, W) and the gap of the decomposition."""
        sums = _Sums(len(batch), self.scaling)
        with batch.classifier.probe() as probe:
            probe.rule(_BIASED, lambda function, args, kwargs: _told(function, args, kwargs, sums.tell))
            gradient = batch.input_gradients_anew()
        sums.take(batch.inputs * gradient)
        maps = [_resized(one, batch.size) for one in sums.maps.values()]
        promised = {"promised": batch.scores}
        return Values(torch.stack(maps).sum(0), completeness=sums.total - batch.scores, diagnostics=promised)

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward and one backward."""
        return Cost(1, 1)


@dataclass
class _Sums:
    """Maps (n, h, w) by their size, and the sum of all bias gradients; nothing larger is kept."""

    images: int
    scaling: str
    maps: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    total: Tensor | float = 0.0

    def tell(self, bias: Tensor, gradient: Tensor) -> None:
        """Take one layer's bias, shaped to broadcast, and the gradient of its output (m, ...).

        A linear map has its channels last; what it adds has no place in the image.
        """
        product = (gradient * bias)[: self.images]
        if product.ndim == 4 and bias.ndim == 4:
            self.take(product)
        else:
            self._count(product)

    def take(self, product: Tensor) -> None:
        """Scale |product| (n, C, h, w) and add its channels to the map of that size."""
        self._count(product)
        size = product.abs()
        axes = (1, 2, 3) if self.scaling == "layer" else (2, 3)
        low, high = size.amin(axes, keepdim=True), size.amax(axes, keepdim=True)
        scaled = ((size - low) / (high - low + _EPSILON)).sum(1)
        place = tuple(product.shape[2:])
        self.maps[place] = self.maps[place] + scaled if place in self.maps else scaled

    def _count(self, product: Tensor) -> None:
        self.total = self.total + product.flatten(1).sum(1).to(torch.promote_types(product.dtype, torch.float32))


class _Tell(torch.autograd.Function):
    """The identity; on the way back it tells the gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, tell: Callable[[Tensor], None]) -> Tensor:
        ctx.tell = tell
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.tell(gradient)
        return gradient, None


_BIASED = named("conv2d") | LINEARS | BATCH_NORMS


def _told(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tell: Callable[[Tensor, Tensor], None]
) -> Tensor:
    output: Tensor = function(*args, **kwargs)
    bias = _normalisation_bias(function, args, kwargs) if function in BATCH_NORMS else _bias(args, kwargs)
    if bias is None:
        return output
    channels_last = function in LINEARS
    shaped = bias.detach() if channels_last else bias.detach().reshape(1, -1, *[1] * (output.ndim - 2))
    told: Tensor = _Tell.apply(output, lambda gradient: tell(shaped, gradient))
    return told


def _bias(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    bias: Tensor | None = kwargs.get("bias", args[2] if len(args) > 2 else None)
    return bias


def _normalisation_bias(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return what a BatchNorm with running statistics adds whatever its input is, (C,)."""
    order = ("input", "running_mean", "running_var", "weight", "bias")
    if function is torch.batch_norm:
        order = ("input", "weight", "bias", "running_mean", "running_var")
    given = dict(zip(order, args, strict=False)) | kwargs
    bias: Tensor | None = given.get("bias")
    if given["running_mean"] is None:
        return bias
    eps = kwargs.get("eps", args[7] if len(args) > 7 else 1e-5)
    scale = (given["running_var"] + eps).rsqrt() * (1.0 if given.get("weight") is None else given["weight"])
    moved: Tensor = given["running_mean"] * scale
    return -moved if bias is None else bias - moved


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]
