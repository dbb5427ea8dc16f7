"""Networks that end in a softmax or sigmoid: the maps of sure predictions are those of the logits, in every spelling.

The right values are those of the float64 network without its end, for the score log p or logit p written out from z.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import networks
from tests.methods.small import method
from xaikit.api import attribute
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.classifier import Classifier
from xaikit.model.ends import log_probabilities
from xaikit.model.target import Contrast

End = Callable[[Tensor], Any]


class Twice(nn.Module):
    """A head inside a module of its own, with an auxiliary softmax that runs after the one at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Softmax(dim=-1)

    def forward(self, z: Tensor) -> Any:
        p = self.last(z)
        return SimpleNamespace(logits=p, auxiliary=F.softmax(z.flip(1), dim=1))


def stably(z: Tensor) -> Tensor:
    e = torch.exp(z - z.max(1, keepdim=True).values)
    return e / e.sum(1, keepdim=True)


def in_place(z: Tensor) -> Tensor:
    e = (z - z.amax(1, keepdim=True)).exp_()
    return e.div_(e.sum(1, keepdim=True))


SOFTMAX: dict[str, End] = {
    "method": lambda z: z.softmax(1),
    "function with keywords": lambda z: F.softmax(input=z, dim=-1),
    "special": lambda z: torch.special.softmax(z, 1),
    "squeezed": lambda z: z[:, :, None, None].softmax(1).squeeze(3).squeeze(2),
    "still four axes": lambda z: z[:, :, None, None].softmax(1),
    "indexed": lambda z: torch.stack([z * 0, z], 1).softmax(2)[:, 1],
    "dict": lambda z: {"features": z * 2, "logits": z.softmax(1)},
    "tuple": lambda z: (z.softmax(1), z),
    "module, with an auxiliary one": Twice(),
    "clipped": lambda z: z.softmax(1).clamp(1e-7, 1 - 1e-7),
    "another dtype": lambda z: z.double().softmax(1).to(z.dtype),
    "half precision": lambda z: z.softmax(1).half(),
    "written out": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "written out stably": stably,
    "written out in place": in_place,
    "exp of log-softmax": lambda z: F.log_softmax(z, 1).exp(),
    "exp of a difference": lambda z: (z - z.logsumexp(1, keepdim=True)).exp(),
    "log-softmax": lambda z: F.log_softmax(z, 1),
    "nn.LogSoftmax": nn.LogSoftmax(1),
    "log-softmax written out": lambda z: z - z.logsumexp(1, keepdim=True),
    "log of softmax": lambda z: z.softmax(1).log(),
}
SIGMOID: dict[str, End] = {
    "method": lambda z: z.sigmoid(),
    "module": nn.Sigmoid(),
    "special": torch.special.expit,
    "in place": lambda z: z.clone().sigmoid_(),
    "squeezed": lambda z: z[..., None].sigmoid().squeeze(-1),
    "dict": lambda z: {"out": torch.sigmoid(z)},
    "half precision": lambda z: z.sigmoid().half(),
    "written out": lambda z: 1 / (1 + torch.exp(-z)),
    "by tanh": lambda z: 0.5 * (1 + torch.tanh(z / 2)),
}


class Sure(networks.Net):
    """Logits that differ by tens: the network's own, times `gain`, plus `shift` per class."""

    def __init__(self, end: End, gain: float, shift: Tensor | None = None, classes: int = networks.CLASSES) -> None:
        super().__init__(classes)
        self.last, self.gain = end, gain
        self.register_buffer("shift", torch.zeros(classes) if shift is None else shift.clone())

    def forward(self, x: Tensor) -> Any:
        z = self.head(self.features(x).mean((2, 3)))
        return self.last((z - z.mean(1, keepdim=True)) * self.gain + self.shift)


def sure(end: End, margin: float, shift: Tensor | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a network whose largest logit lies about `margin` above the next one."""
    plain = networks.seeded(lambda: Sure(networks.variants.unchanged, 1.0)).eval()
    first, second = plain(images(1).double()).topk(2).values[0].tolist()
    return networks.seeded(lambda: Sure(end, margin / (first - second), shift), dtype).eval()


def images(count: int) -> Tensor:
    return networks.images(count, dtype=torch.float32)


def quiet(network: nn.Module, **arguments: Any) -> Classifier:
    classifier = Classifier(network, size=8, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XaikitWarning)
        classifier.outline()
    return classifier


def right(network: Sure, x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient (N, C, H, W) of a score of z (N, K), in float64 autograd."""
    double = networks.seeded(lambda: Sure(networks.variants.unchanged, network.gain, network.shift)).eval()
    double.load_state_dict({name: tensor.double() for name, tensor in network.state_dict().items()})
    x = x.double().requires_grad_(True)
    return torch.autograd.grad(score(double(x)).sum(), x)[0]


def log_odds(z: Tensor) -> Tensor:
    """log p - log(1 - p) of the top class: its gradient is that of log p, up to a factor per image."""
    top = z.argmax(1, keepdim=True)
    return (z.gather(1, top) - z.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True))[:, 0]


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", SOFTMAX)
def test_a_sure_softmax_has_the_map_of_log_p(kind: str, count: int) -> None:
    network, x = sure(SOFTMAX[kind], 22), images(count)
    found = attribute(quiet(network), x, method="saliency")
    assert float(found.probabilities[0]) > 1 - 1e-7
    expected = right(network, x, log_odds).abs().amax(1)
    torch.testing.assert_close(found.heatmap().double(), scaled(expected), rtol=0, atol=2e-3)
    log_p = right(network, x, lambda z: z.log_softmax(1).amax(1)).abs().amax(1)
    torch.testing.assert_close(found.values.double(), log_p, rtol=5e-3, atol=0)


@pytest.mark.parametrize("margin", [5, 18, 50, 120, 900])
@pytest.mark.parametrize("kind", ["method", "log-softmax", "dict"])
def test_no_margin_is_too_large(kind: str, margin: float) -> None:
    network, x = sure(SOFTMAX[kind], margin), images(2)
    classifier = quiet(network)
    expected = right(network, x, log_odds).abs().amax(1)
    found = attribute(classifier, x, method="saliency")
    torch.testing.assert_close(found.heatmap().double(), scaled(expected), rtol=0, atol=2e-3)
    for name in ("grad-cam", "hires-cam", "integrated-gradients", "smooth-grad", "var-grad", "input-x-gradient"):
        values = method(name, classifier, **({"layer": "conv1"} if "cam" in name else {})).attribute(x).values
        assert values.isfinite().all()
        assert values.flatten(1).abs().amax(1).min() > 0, name


@pytest.mark.parametrize("kind", SOFTMAX)
def test_all_log_probabilities_are_kept(kind: str) -> None:
    """Also those of classes whose probability is zero in the network's outputs."""
    network, x = sure(SOFTMAX[kind], 22), images(3)
    z = networks.seeded(lambda: Sure(networks.variants.unchanged, network.gain)).eval()(x.double())
    torch.testing.assert_close(quiet(network)(x).double(), z.log_softmax(1), rtol=1e-5, atol=1e-4)


SHIFT = torch.tensor([25.0, -3.0, 1.0, -40.0])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", SIGMOID)
def test_a_sure_sigmoid_has_the_map_of_its_input(kind: str, count: int) -> None:
    network, x = sure(SIGMOID[kind], 1, SHIFT), images(count)
    classifier = quiet(network)
    assert classifier.output == "sigmoid"
    for target in (0, 1, 3):
        found = attribute(classifier, x, target, "saliency")
        expected = right(network, x, lambda z, target=target: z[:, target]).abs().amax(1)
        torch.testing.assert_close(found.values.double(), expected, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found.scores, classifier(x)[:, target].detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_sure_probability(sign: int) -> None:
    network = networks.seeded(lambda: networks.Net(1, end=lambda z: (sign * 400 * z).sigmoid()), torch.float32).eval()
    classifier, x = quiet(network), images(2)
    z = networks.seeded(lambda: networks.Net(1)).eval()
    double = x.double().requires_grad_(True)
    (expected,) = torch.autograd.grad((400 * z(double)).sum(), double)
    found = attribute(classifier, x, method="saliency").values.double()
    torch.testing.assert_close(found, expected.abs().amax(1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("columns", [[1], [0, 2]])
@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_some_classes_of_an_end_are_independent_classes(end: str, columns: list[int]) -> None:
    """softmax(z)[:, 1] is a sigmoid of z_1 against all others."""
    head = (lambda z: z.softmax(1)) if end == "softmax" else torch.sigmoid
    network, x = sure(lambda z: head(z)[:, columns], 22), images(2)
    classifier = quiet(network)
    assert classifier.output == ("binary" if len(columns) == 1 else "sigmoid")
    place = len(columns) - 1
    column = columns[place]

    def score(z: Tensor) -> Tensor:
        rest = torch.cat([z[:, :column], z[:, column + 1 :]], 1).logsumexp(1)
        return z[:, column] - rest if end == "softmax" else z[:, column]

    found = attribute(classifier, x, 1 if len(columns) == 1 else place, "saliency").values.double()
    torch.testing.assert_close(found, right(network, x, score).abs().amax(1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["method", "squeezed", "log-softmax", "exp of log-softmax"])
def test_other_dtypes(kind: str, dtype: torch.dtype) -> None:
    """Against the network of the same dtype without its end, with log p written out as a target."""
    network, x = sure(SOFTMAX[kind], 22, dtype=dtype), images(2)
    plain = sure(networks.variants.unchanged, 22, dtype=dtype)
    found = attribute(quiet(network), x, method="saliency").heatmap()
    expected = attribute(Classifier(plain, size=8), x, log_odds, "saliency").heatmap()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if dtype == torch.float64 else 0.05)


def test_a_contrast_is_the_difference_of_logits() -> None:
    network, x = sure(SOFTMAX["method"], 40), images(2)
    found = attribute(quiet(network), x, Contrast(2, 0), "saliency").values.double()
    expected = right(network, x, lambda z: z[:, 2] - z[:, 0]).abs().amax(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["method", "log-softmax", "written out"])
def test_deep_lift_sums_to_the_difference_of_log_p(kind: str) -> None:
    network = sure(SOFTMAX[kind], 3, dtype=torch.float64)
    x = images(2).double()
    found = attribute(quiet(network, mean=0.5), x, 1, "deep-lift")
    assert found.completeness is not None
    assert found.completeness.abs().max() < 1e-9
    assert found.flags == [set(), set()]


class Average(nn.Module):
    """An ensemble's mean probability: no tensor holds its logits."""

    def forward(self, z: Tensor) -> Tensor:
        return (z.softmax(1) + (z / 2).softmax(1)) / 2


UNKNOWN: dict[str, End] = {
    "average": Average(),
    "pair": lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1),
    "one-hot": lambda z: (1e6 * (z - z.amax(1, keepdim=True))).exp() / 1,
    "average of halves": lambda z: (z.half().softmax(1) + (z / 2).half().softmax(1)) / 2,
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", UNKNOWN)
def test_saturated_probabilities_without_logits_have_no_gradient(kind: str, count: int) -> None:
    classifier = quiet(sure(UNKNOWN[kind], 80, torch.tensor([80.0, 0, 0, 0])))
    with pytest.raises(BadInput, match="return the logits instead"):
        attribute(classifier, images(count), method="saliency")
    assert attribute(classifier, images(count), method="occlusion").values.isfinite().all()


@pytest.mark.parametrize("kind", ["average", "pair"])
def test_unsaturated_ones_have_that_of_their_logarithm(kind: str) -> None:
    network, x = sure(UNKNOWN[kind], 1), images(2)
    found = attribute(quiet(network), x, 0, "saliency").values.double()
    expected = right(network, x, lambda z: UNKNOWN[kind](z)[:, 0].log()).abs().amax(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_zeros_and_ones_with_a_gradient_are_saturated() -> None:
    classifier = quiet(networks.seeded(lambda: networks.Net(end=lambda z: (99 + z).tanh()), torch.float32).eval())
    with pytest.raises(BadInput, match="return the logits instead"):
        attribute(classifier, images(2), 0, "saliency")
    assert attribute(classifier, images(2), 0, "occlusion").values.isfinite().all()


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.softmax(1).mul_(0.5).add_(0.1),
        lambda z: z.sigmoid().add_(1),
        lambda z: z.softmax(1) * z,
        lambda z: z.sigmoid() * z.softmax(1),
        lambda z: z.log_softmax(1).neg(),
    ],
)
def test_what_is_changed_after_a_softmax_is_no_probability(end: End) -> None:
    network, x = sure(end, 2), images(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*stay in \[0, 1\]")  # as test_classifier.py tests
        classifier = Classifier(network, size=8)
        assert classifier.outline().ends_in == "logits"
    torch.testing.assert_close(classifier(x), network(x))


def test_masked_classes_are_finite() -> None:
    hidden = torch.tensor([False, True, False, False])
    found = quiet(sure(lambda z: z.masked_fill(hidden, -torch.inf).softmax(1), 3))(images(2))
    assert found.isfinite().all()
    assert (found[:, 1] < -80).all()


def test_log_probabilities_in_closed_form() -> None:
    z = torch.tensor([[0.0, 30, -5], [2, 2, 2], [0, 0, 300]], dtype=torch.float64, requires_grad=True)
    found = log_probabilities(z)
    torch.testing.assert_close(found, z.log_softmax(1), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(found[0, 1], z, retain_graph=True)
    others = torch.tensor([0.0, -5], dtype=torch.float64)
    rest = others.logsumexp(0) - 30
    torch.testing.assert_close(gradient[0, 1], rest.sigmoid(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient[0, [0, 2]], -rest.sigmoid() * others.softmax(0), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found[2, 2], z)
    assert gradient[2, 2] > 0
    torch.testing.assert_close(gradient.sum(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-30)
