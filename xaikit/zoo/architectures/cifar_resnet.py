"""CIFAR ResNets: three stages of 16, 32 and 64 channels for 32x32 images.

    conv 3x3 (16) -> layer1 (16, 32x32) -> layer2 (32, 16x16) -> layer3 (64, 8x8) -> global average -> linear
    block: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))
    shortcut, option A: every second row and column, new channels are zero; no parameters

Shapes: inputs (N, C, 32, 32), normalised; logits (N, classes); `layer3` is (N, 64, 8, 8).
Size:   depth 20, 32, 44, 56, 110 have 0.27, 0.46, 0.66, 0.86, 1.73 million parameters.
Source: He, Zhang, Ren, Sun, CVPR 2016, section 4.2, arXiv:1512.03385.
Departs from source: half of a shortcut's zero channels come before the copied ones and half after, as in published
    weights; the paper does not specify their position.
"""

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.zoo.registry import register_architecture

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CifarResNet(nn.Module):
    """A ResNet for CIFAR.

    Args:
        depth: number of layers with weights, 6 n + 2.
        classes: number of logits.
        channels: number of input channels.

    Raises:
        BadInput: `depth` is not 6 n + 2 with n >= 1.
    """

    def __init__(self, depth: int = 20, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise BadInput(f"cifar-resnet: expected a depth of 6 n + 2, got {depth}; use 20, 32, 44, 56 or 110")
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)
        self.linear = nn.Linear(64, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        stem = F.relu(self.bn1(self.conv1(inputs)))
        features = self.layer3(self.layer2(self.layer1(stem)))
        return cast("Tensor", self.linear(F.adaptive_avg_pool2d(features, 1).flatten(1)))


class _Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new = channels - before

    def forward(self, inputs: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(inputs)))))
        return F.relu(inner + self._shortcut(inputs))

    def _shortcut(self, inputs: Tensor) -> Tensor:
        if not self.new:
            return inputs
        first = self.new // 2
        return F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, first, self.new - first))


def _stage(before: int, channels: int, blocks: int) -> nn.Sequential:
    first = _Block(before, channels, stride=1 if before == channels else 2)
    return nn.Sequential(first, *(_Block(channels, channels, stride=1) for _ in range(blocks - 1)))


def _build(depth: int, classes: int, channels: int, size: int) -> nn.Module:
    return CifarResNet(depth, classes, channels)


for _depth in (20, 32, 44, 56, 110):
    register_architecture(f"cifar-resnet{_depth}", size=32, labels=CIFAR10_LABELS)(partial(_build, _depth))
