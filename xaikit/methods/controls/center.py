"""Center: a Gaussian at the centre of the image.

    map(u) = exp(-|u - centre|^2 / (2 sigma^2))        sigma = side / 4

In words: The map is a blob at the centre of the image, the same for every image of one size, every class and every
network. It is a control and explains nothing. Photographs usually show their object in the middle, so localisation
measures may reward it. A method whose maps are no better than this one has not shown that it looks at the image.

Photographs usually show their object at the centre, so this prior scores well without looking at the image.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1].
Source: control row of the benchmark.
"""

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Center(Method):
    """A Gaussian at the centre, the same for all images of one size."""

    name = "center"
    family = "control"
    source = "control: centre prior"
    signed = False
    class_specific = False
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return the Gaussian (n, H, W)."""
        rows, columns = (
            torch.linspace(-2, 2, side, dtype=torch.float64, device="cpu") if side > 1 else torch.zeros(1, device="cpu")
            for side in batch.size
        )
        bell = torch.exp(-0.5 * (rows[:, None] ** 2 + columns[None, :] ** 2))
        return Values(bell.to(batch.pixels).expand(len(batch), *batch.size))
