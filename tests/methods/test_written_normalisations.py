"""A normalisation has one map, whether torch computes it or the network writes it out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier


class Normalising(nn.Module):
    """Two convolutions with a pooling and a normalisation between them."""

    def __init__(self, normalise: Callable[[Normalising, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 4)
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3, 0.05]))
        self.register_buffer("var", torch.tensor([0.5, 1.5, 0.8, 1.1]))
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc(F.relu(self.conv2(F.relu(self.normalise(self, h)))).mean((2, 3)))


def _along(values: Tensor) -> Tensor:
    return values[:, None, None]


def _centred(h: Tensor, axes: int | tuple[int, ...] = 1) -> tuple[Tensor, Tensor]:
    centred = h - h.mean(axes, keepdim=True)
    return centred, centred.pow(2).mean(axes, keepdim=True) + 1e-5


def _layer_norm(net: Normalising, h: Tensor) -> Tensor:
    return F.layer_norm(h.permute(0, 2, 3, 1), (4,), net.weight, net.bias).permute(0, 3, 1, 2)


def _divided(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h)
    return _along(net.weight) * (centred / torch.sqrt(variance)) + _along(net.bias)


def _multiplied(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h)
    return centred * torch.rsqrt(variance) * _along(net.weight) + _along(net.bias)


def _power(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h)
    return variance.pow(-0.5).expand_as(h) * centred * _along(net.weight) + _along(net.bias)


def _reciprocal(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h)
    return (1 / variance.sqrt()) * centred * _along(net.weight) + _along(net.bias)


def _whole(net: Normalising, h: Tensor) -> Tensor:
    return F.group_norm(h, 1)


def _whole_written(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h, (1, 2, 3))
    return centred / variance.sqrt()


def _root_mean_square(net: Normalising, h: Tensor) -> Tensor:
    return h * torch.rsqrt(h.pow(2).mean(1, keepdim=True) + 1e-5)


def _root_mean_square_divided(net: Normalising, h: Tensor) -> Tensor:
    return h / (h.square().mean(1, keepdim=True) + 1e-5).sqrt()


DEEP_LIFT = {
    "divided": (_divided, _layer_norm),
    "multiplied": (_multiplied, _layer_norm),
    "negative power": (_power, _layer_norm),
    "reciprocal": (_reciprocal, _layer_norm),
    "whole image": (_whole_written, _whole),
    "root mean square": (_root_mean_square_divided, _root_mean_square),
}


@pytest.mark.parametrize("form", DEEP_LIFT)
def test_deep_lift_of_a_written_normalisation(form: str) -> None:
    written, plain = (bound(Normalising(normalise), seed=2, mean=0.5, std=0.25) for normalise in DEEP_LIFT[form])
    assert torch.allclose(written(images()), plain(images()), atol=1e-9)
    for count in (1, 3):
        found, expected = (METHODS.get("deep-lift").build(clf).attribute(images(count), 1) for clf in (written, plain))
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-6 * float(expected.values.abs().max()))
        assert found.completeness is not None
        assert float(found.completeness.abs().max()) < 1e-6
        assert float(found.values.abs().max()) < 10  # of the size of the logits, though the baseline is blank


def _scale(net: Normalising) -> Tensor:
    return net.weight * (net.var + 1e-5).rsqrt()


def _batch_norm(net: Normalising, h: Tensor) -> Tensor:
    return F.batch_norm(h, net.mean, net.var, net.weight, net.bias)


def _frozen(net: Normalising, h: Tensor) -> Tensor:
    return h * _along(_scale(net)) + _along(net.bias - net.mean * _scale(net))


def _in_place(net: Normalising, h: Tensor) -> Tensor:
    return h.clone().mul_(_along(_scale(net))).add_(_along(net.bias - net.mean * _scale(net)))


def _step_by_step(net: Normalising, h: Tensor) -> Tensor:
    return (h - _along(net.mean)) / _along((net.var + 1e-5).sqrt()) * _along(net.weight) + _along(net.bias)


def _shifted_first(net: Normalising, h: Tensor) -> Tensor:
    return (h + _along(net.bias / _scale(net) - net.mean)) * _along(_scale(net))


RELEVANCE = [
    ("lrp", {}),
    ("lrp", {"composite": "epsilon"}),
    ("lrp", {"composite": "epsilon-alpha2-beta1"}),
    ("lrp", {"composite": "gamma"}),
    ("contrastive-lrp", {"bias": "absorb"}),
    ("rap", {}),
]


@pytest.mark.parametrize("written", [_frozen, _in_place, _step_by_step, _shifted_first])
def test_relevance_of_a_written_batch_norm_that_is_not_folded(
    written: Callable[[Normalising, Tensor], Tensor],
) -> None:
    first, second = (Normalising(normalise) for normalise in (written, _batch_norm))
    classifiers = []
    for net in (first, second):
        classifier = bound(net, seed=2)
        net.weight.data.copy_(torch.tensor([1.5, 0.5, -1.2, 0.9]))
        net.bias.data.copy_(torch.tensor([0.3, -0.4, 0.2, 0.6]))
        classifiers.append(classifier)
    assert torch.allclose(classifiers[0](images()), classifiers[1](images()), atol=1e-9)
    for count, (name, params) in [(1, RELEVANCE[0]), *((3, method) for method in RELEVANCE)]:
        found, expected = (METHODS.get(name).build(clf, **params).attribute(images(count), 1) for clf in classifiers)
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-5 * scale), name
        assert torch.allclose(
            found.diagnostics["absorbed_bias"], expected.diagnostics["absorbed_bias"], rtol=1e-4, atol=1e-6
        )


def _annotated(net: Normalising, h: Tensor) -> Tensor:
    return _along(net.weight) * (h - h.mean(1, keepdim=True)) / _centred(h)[1].sqrt() + _along(net.bias)


def _detached(net: Normalising, h: Tensor) -> Tensor:
    centred, variance = _centred(h)
    return centred / variance.sqrt().detach() * _along(net.weight) + _along(net.bias)


def _expanded(net: Normalising, h: Tensor) -> Tensor:
    mean = h.mean(1)[:, None].expand_as(h)
    variance = ((h - mean) ** 2).sum(1, keepdim=True) / h.shape[1]
    return (h - mean).mul(torch.rsqrt(variance + 1e-5).repeat(1, 4, 1, 1)) * _along(net.weight) + _along(net.bias)


def _channels_last(net: Normalising, h: Tensor) -> Tensor:
    h = h.permute(0, 2, 3, 1)
    variance, mean = torch.var_mean(h, -1, correction=0, keepdim=True)
    return ((h - mean) / (variance + 1e-5) ** 0.5 * net.weight + net.bias).permute(0, 3, 1, 2)


def _written_in_place(net: Normalising, h: Tensor) -> Tensor:
    deviation = _centred(h)[1].sqrt()
    return h.clone().sub_(h.sum(1, keepdim=True) / 4).div_(deviation).mul_(_along(net.weight)).add_(_along(net.bias))


def _added_mean(net: Normalising, h: Tensor) -> Tensor:
    mean = F.conv2d(h, torch.full((1, 4, 1, 1), 0.25, dtype=h.dtype))
    return -(mean + -1.0 * h) / _centred(h)[1].sqrt() * _along(net.weight) + _along(net.bias)


def _difference_of_quotients(net: Normalising, h: Tensor) -> Tensor:
    deviation = _centred(h)[1].sqrt()
    return (h / deviation - h.mean(1, keepdim=True) / deviation) * _along(net.weight) + _along(net.bias)


def _affine_apart(net: Normalising, h: Tensor) -> Tensor:
    h = F.layer_norm(h.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
    return h * _along(net.weight) + _along(net.bias)


def _groups(net: Normalising, h: Tensor) -> Tensor:
    return F.group_norm(h, 2, net.weight, net.bias)


def _groups_written(net: Normalising, h: Tensor) -> Tensor:
    grouped = h.reshape(len(h), 2, -1)
    centred, variance = _centred(grouped, -1)
    return (centred * variance.rsqrt()).view_as(h) * _along(net.weight) + _along(net.bias)


LAYER_NORMS = {
    "divided": (_divided, _layer_norm),
    "multiplied": (_multiplied, _layer_norm),
    "negative power": (_power, _layer_norm),
    "reciprocal": (_reciprocal, _layer_norm),
    "whole image": (_whole_written, _whole),
    "scaled first": (_annotated, _layer_norm),
    "detached": (_detached, _layer_norm),
    "expanded": (_expanded, _layer_norm),
    "channels last": (_channels_last, _layer_norm),
    "in place": (_written_in_place, _layer_norm),
    "added": (_added_mean, _layer_norm),
    "both divided": (_difference_of_quotients, _layer_norm),
    "affine apart": (_affine_apart, _layer_norm),
    "groups": (_groups_written, _groups),
}


def _normalising(normalise: Callable[[Normalising, Tensor], Tensor]) -> Classifier:
    net = Normalising(normalise)
    classifier = bound(net, seed=2, mean=0.5, std=0.25)
    net.weight.data.copy_(torch.tensor([1.5, 0.5, -1.2, 0.9]))
    net.bias.data.copy_(torch.tensor([0.3, -0.4, 0.2, 0.6]))
    return classifier


@pytest.mark.parametrize("form", LAYER_NORMS)
@pytest.mark.slow
def test_relevance_of_a_written_layer_norm(form: str) -> None:
    written, plain = (_normalising(normalise) for normalise in LAYER_NORMS[form])
    assert torch.allclose(written(images()), plain(images()), atol=1e-9)
    for count, (name, params) in [(1, RELEVANCE[0]), *((3, method) for method in RELEVANCE)]:
        found, expected = (
            METHODS.get(name).build(clf, **params).attribute(images(count), 1) for clf in (written, plain)
        )
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-5 * scale), name
        assert torch.allclose(
            found.diagnostics["absorbed_bias"], expected.diagnostics["absorbed_bias"], rtol=1e-4, atol=1e-6
        )
        assert found.flags == expected.flags
