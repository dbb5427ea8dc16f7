"""Networks whose confidence is known by hand, and a small one with random weights."""

import torch
from torch import Tensor, nn

from xaikit.model.classifier import Classifier


class Sum(nn.Module):
    """One logit: the weighted sum of all pixels."""

    def __init__(self, weights: Tensor | float = 1.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * self.weights).sum((1, 2, 3))[:, None]


def summing(weights: Tensor | float = 1.0, channels: int = 1) -> Classifier:
    """p of class 1 = sigmoid(sum of weights * pixels), in float64, without mean and std."""
    return Classifier(Sum(weights), output="binary", channels=channels)


class Additive(nn.Module):
    """Logit c = scale * mean over pixels of relu(w_c . x_p - b_c): no pixel changes what another one adds."""

    def __init__(self, classes: int = 3, channels: int = 3, scale: float = 40.0) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(3)
        self.colours = nn.Conv2d(channels, classes, 1, dtype=torch.float64)
        for parameter in self.colours.parameters():
            parameter.data = torch.randn(parameter.shape, generator=drawn, dtype=torch.float64)
        self.scale = scale

    def shares(self, inputs: Tensor) -> Tensor:
        """What each pixel adds to each logit, (N, K, H, W)."""
        return self.scale / (inputs.shape[2] * inputs.shape[3]) * self.colours(inputs).relu()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.shares(inputs).sum((2, 3))


def additive() -> Classifier:
    """Three colour detectors with mean and std, in float64."""
    return Classifier(Additive(), mean=[0.45] * 3, std=[0.25] * 3)


def true_shares(classifier: Classifier, pixels: Tensor, target: Tensor) -> Tensor:
    """What each pixel adds to the target's logit beyond the mean colour, (N, H, W)."""
    network, inputs = classifier.network, classifier.normalize(pixels.double())
    assert isinstance(network, Additive)
    with torch.no_grad():
        shares = network.shares(inputs) - network.shares(torch.zeros_like(inputs))
    return shares[torch.arange(len(pixels)), target]


def small(channels: int = 3, dtype: torch.dtype = torch.float32, output: str = "softmax") -> Classifier:
    """A convolution, a pooling and a linear layer to three classes, with mean and std."""
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        network = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
        nn.init.normal_(network[-1].weight, std=1.5)
    return Classifier(network.to(dtype), mean=[0.45] * channels, std=[0.25] * channels, output=output)  # type: ignore[arg-type]
