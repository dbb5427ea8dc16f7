"""One small network, in the ways in which users write theirs."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

CLASSES = 4


def unchanged(logits: Tensor) -> Tensor:
    """Return the logits: what `end` does by default."""
    return logits


class Net(nn.Module):
    """conv1 -> relu -> conv2 -> relu -> mean -> head -> end; the base of most others."""

    def __init__(self, classes: int = CLASSES, channels: int = 3, end: Callable[[Tensor], Any] = unchanged) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6, classes)
        self.end = end

    def features(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu()).relu()

    def forward(self, x: Tensor) -> Any:
        return self.end(self.head(self.features(x).mean((2, 3))))


class InPlace(Net):
    """Every ReLU a module of its own that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))))


class Reused(Net):
    """One ReLU module, called twice."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=inplace)

    def features(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))))


class Functional(Net):
    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class FunctionalInPlace(Net):
    """A layer followed by a functional ReLU in place, as in DenseNet."""

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x), inplace=True)), inplace=True)


class Statement(Net):
    """ReLUs whose returned value nobody reads."""

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x.relu_()
        x = self.conv2(x)
        torch.relu_(x)
        return x


class Stochastic(Net):
    """BatchNorm and dropout, in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(5)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 2)
        self.dropout = nn.Dropout(0.5)
        self.train()

    def features(self, x: Tensor) -> Tensor:
        return self.conv2(self.norm(self.conv1(x)).relu()).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x).mean((2, 3))))


class Residual(Net):
    """A sum that crosses conv2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(6, 5, 3, padding=1)
        self.head = nn.Linear(5, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        return F.relu(x + self.conv3(self.conv2(x).relu_()))


class Concat(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(11, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        return torch.cat([x, self.conv2(x).relu()], 1)


class SqueezeExcite(Net):
    """A gate made of a global pooling in the middle of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(5, 5, 1)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        return self.conv2(x * self.gate(self.pool(x)).sigmoid()).relu()


class FrozenStem(Net):
    """A network that switches gradients off in its own stem."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.conv1(x)
        return self.head(self.conv2(x.relu()).relu().mean((2, 3)))


class Raising(Net):
    """Fails in the middle of a forward, once told to."""

    error: BaseException | None = None

    def features(self, x: Tensor) -> Tensor:
        x = super().features(x)
        if self.error is not None:
            raise self.error
        return x


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("the stem was differentiated")


class Guarded(Net):
    """A stem whose backward raises."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_NoBackward.apply(self.conv1(x)[:, :3].contiguous()) + 0 * x)


class Failing(nn.Module):
    """Runs another network `left` more times, then raises; None never raises. A plain attribute would be looked at."""

    def __init__(self, network: nn.Module, left: int | None = None) -> None:
        super().__init__()
        self.network, self.count = network, [left]

    @property
    def left(self) -> int | None:
        return self.count[0]

    @left.setter
    def left(self, left: int | None) -> None:
        self.count[0] = left

    def forward(self, x: Tensor) -> Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("stumbled")
        return self.network(x)


def frozen() -> Net:
    return Net().requires_grad_(False)


def parallel() -> nn.Module:
    return nn.DataParallel(InPlace())


def with_nan() -> Net:
    net = Net()
    with torch.no_grad():
        net.head.weight[0, 0] = torch.nan
    return net


# name -> (how to build it, a layer whose gradients are asked for)
CLASSIFIERS = {
    "plain relu": (Net, "conv1"),
    "in place": (InPlace, "conv1"),
    "in place, the relu itself": (InPlace, "relu1"),
    "reused": (Reused, "relu:0"),
    "reused, last call": (Reused, "relu:1"),
    "reused in place": (lambda: Reused(inplace=True), "relu:0"),
    "functional": (Functional, "conv2"),
    "functional in place": (FunctionalInPlace, "conv2"),
    "statement": (Statement, "conv1"),
    "train mode": (Stochastic, "norm"),
    "residual inside": (Residual, "conv2"),
    "residual before": (Residual, "conv1"),
    "concat": (Concat, "conv2"),
    "squeeze-excite": (SqueezeExcite, "conv1"),
    "frozen": (frozen, "conv1"),
    "own no_grad": (FrozenStem, "conv1"),
    "data parallel": (parallel, "conv1"),
    "dict": (lambda: Net(end=lambda z: {"features": z * 0, "logits": z}), "conv1"),
    "tuple": (lambda: Net(end=lambda z: (z, z * 0)), "conv1"),
    "object": (lambda: Net(end=lambda z: SimpleNamespace(logits=z)), "conv1"),
    "one logit": (lambda: Net(1), "conv1"),
}


def seeded(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """Build a network with reproducible weights, leaving the global random state alone."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return build().to(dtype)


def narrowed(network: nn.Module) -> nn.Module:
    """Give the hidden linear maps of VGG and AlexNet 64 outputs: they have a hundred million weights otherwise."""
    head = network.classifier
    places = [place for place, module in enumerate(head) if isinstance(module, nn.Linear)]
    widths = [head[places[0]].in_features, *[64] * (len(places) - 1), head[places[-1]].out_features]
    for place, (inputs, outputs) in zip(places, pairwise(widths), strict=True):
        head[place] = nn.Linear(inputs, outputs)
    return network


def of_torchvision(name: str, **options: Any) -> nn.Module:
    """Return a network of torchvision with random weights, VGG and AlexNet narrowed before any is drawn."""
    if not name.startswith(("alexnet", "vgg")):
        built: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return built
    with torch.device("meta"):
        network = narrowed(torchvision.models.get_model(name, weights=None, **options))
    for module in network.to_empty(device="cpu").modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d):  # as torchvision draws them
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return network
