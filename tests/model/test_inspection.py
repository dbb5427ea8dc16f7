"""What the first forward shows: randomness, and why a network cannot run."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import networks
from xaikit.api import attribute
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.classifier import Classifier

# ---- random forwards ------------------------------------------------------------------------------------------------


class Own:
    """Noise from a generator of its own, which no global state shows."""

    def __init__(self) -> None:
        self.stream = torch.Generator().manual_seed(0)

    def __call__(self, z: Tensor) -> Tensor:
        return z + 0.1 * torch.randn(z.shape, generator=self.stream)


RANDOM: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout by function": lambda z: F.dropout(z, 0.5),
    "noise": lambda z: z + 0.1 * torch.randn_like(z),
    "noise in place": lambda z: z + torch.empty_like(z).normal_(),
    "stochastic depth that seldom drops": lambda z: z * (torch.rand(len(z), 1) > 1e-6),
    "NumPy": lambda z: z + np.random.normal(),  # noqa: NPY002 - as users write it
    "Python": lambda z: z * random.uniform(0.9, 1.1),
    "a generator of its own": Own(),
}


class Cropped(networks.Net):
    """A random crop of the image at every forward."""

    def forward(self, x: Tensor) -> Any:
        top = int(torch.randint(0, 3, ()))
        return super().forward(x[:, :, top : top + 6])


def random_networks() -> dict[str, nn.Module]:
    made = {name: networks.seeded(lambda end=end: networks.Net(end=end), torch.float32) for name, end in RANDOM.items()}
    return made | {"random crop": networks.seeded(Cropped, torch.float32)}


@pytest.mark.parametrize("memory_format", [None, torch.channels_last])
@pytest.mark.parametrize("name", [*RANDOM, "random crop"])
def test_a_random_network_is_warned_of_once_and_its_maps_are_flagged(name: str, memory_format: Any) -> None:
    classifier = Classifier(random_networks()[name].eval(), size=8, memory_format=memory_format, name="mine")
    states = random.getstate(), torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    with pytest.warns(XaikitWarning, match=r"mine is random in eval mode.*switch it off"):
        classifier.outline()
    for count in (1, 3):
        for method in ("saliency", "grad-cam", "occlusion"):
            found = attribute(classifier, networks.images(count, dtype=torch.float32), 0, method)
            assert all("random-network" in flags for flags in found.flags)
    assert random.getstate() == states[0]
    assert torch.equal(torch.random.get_rng_state(), states[1])
    assert np.array_equal(np.random.get_state()[1], states[2][1])  # noqa: NPY002


class Seldom(nn.Module):
    """Adds noise from a generator of its own to few of its images, or the same noise to all of them."""

    def __init__(self, share: float, *, seeded: bool = False) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 4)
        self.generator, self.share, self.seeded = [torch.Generator().manual_seed(1)], share, seeded

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).relu().mean((2, 3))
        (generator,) = self.generator
        if self.seeded:
            generator.manual_seed(0)
        if float(torch.rand((), generator=generator)) < self.share:
            h = h + torch.randn(1, h.shape[1], generator=generator)
        return self.fc(h)


def test_a_generator_of_the_network_that_seldom_acts_is_warned_of() -> None:
    classifier = Classifier(networks.seeded(lambda: Seldom(0.01), torch.float32).eval(), size=8)
    with pytest.warns(XaikitWarning, match="random in eval mode"):
        assert classifier.outline().random
    again = Classifier(networks.seeded(lambda: Seldom(1, seeded=True), torch.float32).eval(), size=8)
    assert not again.outline().random


def test_a_random_function_is_warned_of() -> None:
    classifier = Classifier.from_function(lambda x: np.full((len(x), 2), 0.5) + random.uniform(0, 1e-3), size=8)
    with pytest.warns(XaikitWarning, match="random in eval mode"):
        classifier.outline()


@pytest.mark.parametrize("name", networks.CLASSIFIERS)
def test_other_networks_are_not_called_random(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", XaikitWarning)
        network = networks.seeded(networks.CLASSIFIERS[name][0], torch.float32)
        assert not Classifier(network, size=8).outline().random
        assert not Classifier(network, size=8, memory_format=None).outline().random


# ---- networks that cannot run ---------------------------------------------------------------------------------------


class WithAge(networks.Net):
    def forward(self, x: Tensor, age: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x) + age


class WithKeyword(networks.Net):
    def forward(self, x: Tensor, *, mask: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x * mask)


class WithOptional(networks.Net):
    def forward(self, x: Tensor, second: Tensor | None = None) -> Any:  # type: ignore[override]
        return super().forward(x) + second


@pytest.mark.parametrize("convolution", [nn.Conv3d(1, 2, 3), nn.Conv1d(3, 2, 3)])
def test_a_network_of_volumes_or_of_series_is_one_line(convolution: nn.Module) -> None:
    with pytest.raises(BadInput, match=r"in one or three dimensions; only images \(N, C, H, W\)") as caught:
        Classifier(nn.Sequential(convolution, nn.Flatten(), nn.Linear(8, 3)), size=8).layers()
    assert "\n" not in str(caught.value)


class OfDict(networks.Net):
    def forward(self, batch: Any) -> Any:
        return super().forward(batch["image"])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (WithAge, r"it takes 2 inputs \(x, age\); wrap it in a module that takes the image alone and holds the others"),
        (WithAge, r"def forward\(self, x\): return self\.network\(x, age=self\.age\.expand\(len\(x\), -1\)\)$"),
        (WithKeyword, r"it takes 2 inputs \(x, mask\); wrap it"),
        (WithOptional, "wrap it in a module that takes the image alone"),
        (OfDict, "wrap it in a module that takes the image alone"),
    ],
)
def test_a_network_of_other_inputs_is_told_to_be_wrapped(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as caught:
        attribute(Classifier(networks.seeded(build, torch.float32), size=8), networks.images(1, dtype=torch.float32))
    assert "size=" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.Linear(144, 3)),
    ],
)
def test_lazy_weights_are_refused_until_they_have_values(network: nn.Module) -> None:
    with pytest.raises(BadInput, match=r"got the lazy '.*'; run the network once on an image"):
        Classifier(network, size=8)
    network(torch.rand(2, 3, 8, 8))
    assert Classifier(network.eval(), size=8)(torch.rand(2, 3, 8, 8)).shape == (2, 3)


class OnlyParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.weight


def test_a_network_without_layers_says_what_works() -> None:
    classifier, x = Classifier(OnlyParameters(), size=8), torch.rand(2, 3, 8, 8)
    with pytest.raises(BadInput, match=r"it has no layers with outputs \(N, C, h, w\): use saliency"):
        attribute(classifier, x)
    assert attribute(classifier, x, method="saliency").values.shape == (2, 8, 8)


# ---- training mode ---------------------------------------------------------------------------------------------------


class Switching(nn.Module):
    """Turns training mode on in its forward, in itself or in one part."""

    def __init__(self, part: str, layer: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.layer = layer
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.part != "nothing":
            self.get_submodule(self.part).train()
        logits: Tensor = self.last(self.layer(self.first(x)).relu().mean((2, 3)))
        return logits


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Identity(), nn.InstanceNorm2d(4, track_running_stats=True)])
@pytest.mark.parametrize(("part", "named"), [("", "itself"), ("layer", "layer")])
def test_a_forward_that_turns_training_mode_on_is_told(layer: nn.Module, part: str, named: str) -> None:
    network = Switching(part, layer).eval()
    with pytest.warns(XaikitWarning, match=f"training mode on in '{named}'.*remove train\\(\\)"):
        attribute(Classifier(network, size=16), torch.rand(2, 3, 16, 16), method="saliency")
    assert not any(module.training for module in network.modules())


def test_a_network_that_stays_in_eval_mode_is_not_told_of() -> None:
    for training in (True, False):
        network = Switching("nothing", nn.BatchNorm2d(4)).train(training)
        attribute(Classifier(network, size=16), torch.rand(2, 3, 16, 16), method="saliency")


class KeptNoise(networks.Net):
    """Adds noise that it draws once, in its first forward."""

    def forward(self, x: Tensor) -> Any:
        if not hasattr(self, "noise"):
            self.noise = torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(3), dtype=x.dtype)
        return super().forward(x + self.noise)


def test_numbers_that_are_drawn_once_are_not_random() -> None:
    found = attribute(
        Classifier(networks.seeded(KeptNoise, torch.float32), 0, size=8), networks.images(2), 0, "saliency"
    )
    assert not any("random-network" in flags for flags in found.flags)
