"""What other packages do to a map before they return it, and to the image, written out.

Each formula takes values and the case they come from, and returns what the other side must be; scores are functions of
logits (n, K) that other packages explain.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.backends.cases import Case
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context

__all__ = [
    "Formula",
    "against_nearest_by_probability",
    "as_it_is",
    "by_their_scaling",
    "channels_to_one",
    "class_map",
    "cropped_at_the_border",
    "each_channel_to_one",
    "post_processed",
    "rectified",
    "then_post_processed",
    "to_one",
]

Formula = Callable[[Tensor, Case], Tensor]


def as_it_is(values: Tensor, case: Case) -> Tensor:
    """Nothing is done."""
    return values


def rectified(values: Tensor, case: Case) -> Tensor:
    """The positive part."""
    return values.relu()


def post_processed(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam: rectify, scale at the layer's size, enlarge, scale again; 1e-7 in both denominators."""
    size = tuple(case.pixels.shape[-2:])
    enlarged = F.interpolate(to_one(values.relu())[:, None], size=size, mode="bilinear", align_corners=False)
    return to_one(enlarged[:, 0])


def class_map(values: Tensor, case: Case) -> Tensor:
    """SqueezeNet's own class map: the convolution's bias and ReLU, which torchcam's CAM leaves out."""
    bias = case.classifier.module.get_parameter("classifier.1.bias").detach()
    return (values + bias[case.target, None, None]).relu()


def each_channel_to_one(added: float, align_corners: bool) -> Formula:
    """FullGrad with the range of each channel brought to one; `added` stands in the denominator.

    pytorch-grad-cam adds 1e-7 and enlarges without aligned corners, ours adds nothing and aligns them.
    """

    def formula(values: Tensor, case: Case) -> Tensor:
        batch = Batch(case.classifier, case.pixels, case.target, Context())
        biases = {Layer(name): _bias(part) for name, part in case.classifier.module.named_modules() if _is_biased(part)}
        with case.classifier.borrowed():
            batch.attach(list(biases))
            products = [batch.inputs * batch.input_gradients]
            for layer, bias in biases.items():
                products.append(batch.activations_and_gradients(layer)[1] * bias[:, None, None])
        total = torch.zeros_like(case.pixels[:, 0])
        for product in products:
            scaled = channels_to_one(product.abs(), added).sum(1, keepdim=True)
            total += F.interpolate(scaled, size=total.shape[1:], mode="bilinear", align_corners=align_corners)[:, 0]
        return total

    return formula


def by_their_scaling(formula: Formula) -> Formula:
    """pytorch-grad-cam's FullGrad ends in one more scaling to [0, 1]."""
    return lambda values, case: to_one(formula(values, case))


def then_post_processed(formula: Formula) -> Formula:
    """A formula, and pytorch-grad-cam's post-processing after it."""
    return lambda values, case: post_processed(formula(values, case).float(), case)


def cropped_at_the_border(window: int, stride: int) -> Formula:
    """captum: of windows that do not tile the image the last is cropped, where ours is pushed back to the border."""

    def formula(values: Tensor, case: Case) -> Tensor:
        inputs = case.classifier.normalize(case.pixels)
        side = inputs.shape[-1]
        starts = range(0, side - window + stride, stride)
        drops, covers = torch.zeros(len(inputs), side, side), torch.zeros(side, side)
        with case.classifier.borrowed(), torch.no_grad():
            score = case.classifier.logits(inputs).gather(1, case.target[:, None])[:, 0]
            for place in ((slice(y, y + window), slice(x, x + window)) for y in starts for x in starts):
                covered = inputs.clone()
                covered[:, :, *place] = 0
                drop = score - case.classifier.logits(covered).gather(1, case.target[:, None])[:, 0]
                drops[:, *place] += drop[:, None, None]
                covers[place] += 1
        return drops / covers

    return formula


def against_nearest_by_probability(logits: Tensor) -> Tensor:
    """pytorch-grad-cam's Finer-CAM: sum_d p_d (z_c - z_d) / (sum_d p_d + 1e-9), d the three classes next to the top."""
    nearest = logits.topk(4, dim=1).indices
    top, others = logits.gather(1, nearest).split([1, 3], dim=1)
    shares = logits.softmax(1).gather(1, nearest[:, 1:])
    return (shares * (top - others)).sum(1) / (shares.sum(1) + 1e-9)


def to_one(maps: Tensor) -> Tensor:
    """Each map (n, h, w) from zero to one, as pytorch-grad-cam has it."""
    return channels_to_one(maps[:, None], 1e-7)[:, 0]


def channels_to_one(maps: Tensor, added: float = 1e-8) -> Tensor:
    """Each channel of (n, C, h, w) from zero to one, with `added` in the denominator."""
    shifted = maps - maps.amin((2, 3), keepdim=True)
    ranges = added + shifted.amax((2, 3), keepdim=True)
    return shifted / torch.where(ranges > 0, ranges, 1)


def _is_biased(part: nn.Module) -> bool:
    return type(part) in (nn.Conv2d, nn.BatchNorm2d) and part.bias is not None


def _bias(part: nn.Module) -> Tensor:
    assert isinstance(part.bias, Tensor)
    if not isinstance(part, nn.BatchNorm2d):
        return part.bias.detach()
    assert part.running_mean is not None
    assert part.running_var is not None
    return (part.bias - part.running_mean * part.weight / torch.sqrt(part.running_var + part.eps)).detach()
