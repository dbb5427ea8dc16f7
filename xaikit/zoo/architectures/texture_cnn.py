"""TextureCNN: a small fully convolutional network for the synthetic images of `images/synthetic.py`.

    conv 5x5/2 (16) -> conv 3x3 (32) -> conv 3x3/2 (48) -> conv 3x3 (64), each with BatchNorm and ReLU
    -> global average pool -> linear

Shapes: inputs (N, C, H, W), normalised, H and W at least 4; logits (N, classes); `features` is (N, 64, H/4, W/4).
Size:   47,990 parameters for 3 channels and 6 classes.
"""

from typing import cast

from torch import Tensor, nn

from xaikit.zoo.registry import register_architecture


class TextureCNN(nn.Module):
    """Four convolutions, global average pooling and a linear layer.

    Args:
        classes: number of logits.
        channels: number of input channels.
    """

    def __init__(self, classes: int = 6, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(channels, 16, kernel=5, stride=2),
            *_stage(16, 32),
            *_stage(32, 48, stride=2),
            *_stage(48, 64),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        return cast("Tensor", self.linear(self.pool(self.features(inputs)).flatten(1)))


def _stage(channels: int, maps: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(maps), nn.ReLU()


@register_architecture("texture-cnn", size=64)
def _build(classes: int, channels: int, size: int) -> nn.Module:
    return TextureCNN(classes, channels)
