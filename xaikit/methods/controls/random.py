"""Random: independent uniform noise, one value per pixel.

    map(u) ~ U(0, 1)

In words: Every pixel gets an independent random number, whatever the image shows and whatever the network does. It is a
control and explains nothing: fine, speckled and not specific to a class. Its value tells what chance reaches on a
measure. Since removing scattered pixels affects a network differently from removing regions, compare coarse maps with
random-grid.

It contains no information about the model: a measure on which it does well does not measure explanations.

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
class Random(Method):
    """Independent uniform noise at every pixel, seeded by the seed and the image."""

    name = "random"
    family = "control"
    source = "control: independent noise"
    signed = False
    class_specific = False
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return noise (n, H, W)."""
        noise = [
            torch.rand(batch.size, generator=stream, dtype=torch.float32, device="cpu")
            for stream in batch.generators(self.name)
        ]
        return Values(torch.stack(noise).to(batch.pixels) if noise else batch.pixels[:, 0])
