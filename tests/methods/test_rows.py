"""The rows of a tensor need not be the images: a batch has the maps and amounts of its images one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.methods.base import METHODS
from xaikit.run.attribution import Attribution

RELEVANCE = ("lrp", "contrastive-lrp", "rap", "excitation-backprop", "softmax-gradient-lrp")


class Rows(nn.Module):
    """Two convolutions, a linear layer and a head, which a function puts together."""

    def __init__(self, written: Callable[[Rows, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.mix, self.fc, self.written = nn.Linear(4, 4), nn.Linear(5, 4), written

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)

    def head(self, h: Tensor) -> Tensor:
        out: Tensor = self.fc(self.features(h))
        return out

    def features(self, h: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(h))).mean((2, 3))

    def whole(self, x: Tensor) -> Tensor:
        return self.head(self.conv1(x))


def _by_class(net: Rows, x: Tensor) -> Tensor:
    features = net.features(net.conv1(x))
    return torch.stack(
        [(features * row).sum(1) + bias for row, bias in zip(net.fc.weight, net.fc.bias, strict=True)], 1
    )


def _positions(net: Rows, x: Tensor) -> Tensor:
    h = F.relu(net.conv1(x)).permute(0, 2, 3, 1)
    return net.head(net.mix(h.reshape(-1, 4)).reshape(h.shape).permute(0, 3, 1, 2))


def _channels_last(net: Rows, x: Tensor) -> Tensor:
    return net.head(net.mix(F.relu(net.conv1(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def _multiplied(net: Rows, x: Tensor) -> Tensor:
    h = F.relu(net.conv1(x)).permute(0, 2, 3, 1)
    mixed = h.reshape(-1, 4) @ net.mix.weight.T + net.mix.bias
    return net.head(mixed.reshape(h.shape).permute(0, 3, 1, 2))


FORMS: dict[str, Callable[[Rows, Tensor], Tensor]] = {
    "a loop": lambda net, x: torch.cat([net.whole(image[None]) for image in x]),
    "a loop without an axis": lambda net, x: torch.stack([net.fc(net.features(net.conv1(i[None]))[0]) for i in x]),
    "two at a time": lambda net, x: torch.cat([net.whole(images) for images in x.split(2)]),
    "views, view by view": lambda net, x: sum(net.whole(torch.cat([x, x.flip(3)])).chunk(2)),  # type: ignore[arg-type]
    "views, image by image": lambda net, x: (
        net.whole(torch.stack([x, x.flip(2)], 1).flatten(0, 1)).view(-1, 2, 4).mean(1)
    ),
    "logits by class": _by_class,
    "positions": _positions,
    "positions last": _multiplied,
    "a border": lambda net, x: torch.cat([net.head(F.pad(net.conv1(image[None]), (1, 1, 1, 1))) for image in x]),
}


def explained(form: Callable[[Rows, Tensor], Tensor], name: str, x: Tensor, layer: str | None = None) -> Attribution:
    return METHODS.get(name).build(bound(Rows(form), seed=2), layer).attribute(x, 1)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert torch.allclose(found, expected, rtol=0, atol=tolerance * max(float(expected.abs().max()), 1e-9))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_a_batch_is_its_images_one_by_one(form: str) -> None:
    x = images(3)
    for name in RELEVANCE:
        together, alone = explained(FORMS[form], name, x), [explained(FORMS[form], name, image[None]) for image in x]
        assert_close(together.values, torch.cat([one.values for one in alone]))
        assert together.flags == [one.flags[0] for one in alone]
        assert not any("unbalanced" in flags for flags in together.flags)
        for amount in together.diagnostics:
            assert_close(together.diagnostics[amount], torch.cat([one.diagnostics[amount] for one in alone]), 1e-7)


@pytest.mark.parametrize(
    ("form", "layer"), [("positions", "conv2"), ("positions last", "conv2"), ("logits by class", "conv1")]
)
def test_the_same_at_a_layer(form: str, layer: str) -> None:
    x = images(3)
    for name in ("relevance-cam", "layer-excitation-backprop"):
        together = explained(FORMS[form], name, x, layer)
        assert_close(together.values, torch.cat([explained(FORMS[form], name, one[None], layer).values for one in x]))


@pytest.mark.parametrize(
    ("form", "plain"),
    [
        (FORMS["a loop"], Rows.whole),
        (FORMS["two at a time"], Rows.whole),
        (FORMS["positions"], _channels_last),
        (FORMS["logits by class"], Rows.whole),
    ],
)
def test_one_function_has_one_map(
    form: Callable[[Rows, Tensor], Tensor], plain: Callable[[Rows, Tensor], Tensor]
) -> None:
    assert torch.allclose(bound(Rows(form), seed=2)(images()), bound(Rows(plain), seed=2)(images()))
    for count in (1, 3):
        for name in ("lrp", "rap", "excitation-backprop"):
            if form is FORMS["logits by class"] and name == "rap":
                continue
            found, expected = (explained(one, name, images(count)).values for one in (form, plain))
            assert_close(found, expected, 1e-6)
