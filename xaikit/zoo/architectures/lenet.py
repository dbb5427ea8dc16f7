"""LeNet-5 with ReLU, for 32x32 images.

    conv 5x5 (6) -> pool 2 -> conv 5x5 (16) -> pool 2 -> linear 120 -> linear 84 -> linear classes

Shapes: inputs (N, C, size, size), normalised; logits (N, classes); `features` is (N, 16, 5, 5) at size 32.
Size:   61,706 parameters for one channel and ten classes.
Source: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86 (1998), section II.B and figure 2.
Departs from source: ReLU instead of tanh; average pooling without a trainable scale and bias; the second convolution
    reads all six channels, not the selection of table I; C5, a 5x5 convolution over its whole input, is written as the
    equivalent linear layer; ten logits instead of the radial basis units.
"""

from typing import cast

from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.zoo.registry import register_architecture


@register_architecture("lenet5", channels=1, size=32, mean=(0.5,), std=(0.5,))
class LeNet5(nn.Module):
    """Two convolutions with pooling and three linear layers.

    Args:
        classes: number of logits.
        channels: number of input channels.
        size: side of the square input, in pixels.

    Raises:
        BadInput: `size` is below 16.
    """

    def __init__(self, classes: int = 10, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        if side < 1:
            raise BadInput(f"lenet5: expected size >= 16, got {size}; use 32, the size it was designed for")
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(16 * side * side, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        return cast("Tensor", self.classifier(self.flatten(self.features(inputs))))
