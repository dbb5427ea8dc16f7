"""Random grid: uniform noise on a coarse grid, as smooth as a class activation map.

    map ~ U(0, 1) on 7 x 7 cells, upsampled by the heatmap

In words: Random numbers on a few cells are enlarged to the size of the image. It is a control and explains nothing, but
it is as coarse and smooth as the maps of activation methods. As a mask it keeps and removes whole regions, as they do,
so it is the fair chance level for them; random is that of maps with one value per pixel. It ignores the image, the
class and the network.

Smooth maps keep or remove whole regions, so this is the fair random baseline for the activation methods.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, grid, grid) in [0, 1].
Source: control row of the benchmark.
"""

from dataclasses import dataclass

import torch

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class RandomGrid(Method):
    """Uniform noise on a coarse grid, seeded by the seed and the image.

    Args:
        grid: number of cells along each side, at most one per pixel.
    """

    grid: Count = 7

    name = "random-grid"
    family = "control"
    source = "control: coarse noise"
    signed = False
    class_specific = False
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return noise (n, grid, grid)."""
        if self.grid > min(batch.size):
            raise BadInput(f"grid: expected at most the image's {min(batch.size)} pixels a side, got {self.grid}")
        shape = (self.grid, self.grid)
        noise = [
            torch.rand(shape, generator=stream, dtype=torch.float32, device="cpu")
            for stream in batch.generators(self.name)
        ]
        return Values(torch.stack(noise).to(batch.pixels) if noise else batch.pixels.new_zeros(0, *shape))
