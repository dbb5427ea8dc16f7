"""Averages of a base method's values over noisy copies of each image.

    e_i ~ N(0, sigma^2),  sigma = level * (max x - min x)        per image, in the network's coordinates
    v_i = values of the base method at x + e_i, before the reduction of the channels

Each copy has its own random stream, seeded by (seed, content of the image, number of the copy), so that values depend
neither on the batch nor on the portions. Only sums are kept, so memory does not grow with the number of samples.

Shapes: inputs and e_i (N, C, H, W); v_i (N, C, H, W), or (N, h, w) if the base method reads a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.images.shapes import per_image
from xaikit.methods.base import check_output, place_flags
from xaikit.methods.gradient.wrapping import WrappingMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Term = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NoisyMethod(WrappingMethod):
    """Base class of methods that average another method's values over noisy copies.

    Args:
        samples: number of noisy copies per image.
        level: standard deviation of the noise, as a share of the image's range.
    """

    samples: Count = 50
    level: NotNegative = 0.15

    def check(self) -> None:
        """Check that the base method exists and adds no noise itself."""
        if isinstance(self.inner, NoisyMethod):
            raise BadInput(f"base: expected a method that adds no noise, got {self.base}; name the method to smooth")

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the cost of the base method once per sample."""
        base = self.inner.cost(size)
        return Cost(self.samples * base.forwards, self.samples * base.backwards)

    def means(self, batch: Batch, *terms: Term) -> tuple[list[Tensor], list[set[str]]]:
        """Return the mean of each term over the copies, (n, C, H, W) or (n, h, w), and the flags of its copies.

        Args:
            batch: the clean images.
            terms: functions of the values (m, ...) on copies and of the indices (m,) of their images in the batch.

        Raises:
            BadInput: the base method needs probabilities and the network is a regression.
        """
        check_output(self.inner)
        image_range = batch.inputs.amax((1, 2, 3)) - batch.inputs.amin((1, 2, 3))
        sigma = per_image(self.level * image_range, batch.inputs)

        flags = place_flags(self.inner, batch)

        def explain(rows: Tensor, copies: Tensor) -> Tensor:
            noise = [copy_noise(batch, row, copy) for row, copy in zip(rows.tolist(), copies.tolist(), strict=True)]
            noisy = batch.inputs[rows] + sigma[rows] * torch.stack(noise).to(batch.inputs)
            result = self.inner.compute(batch.at(noisy, rows))
            for row, names in zip(rows.tolist(), result.flags, strict=False):  # no names where nothing is flagged
                flags[row] |= names
            return result.values.detach()

        totals: list[Tensor] = []
        for rows, _, values in batch.pairs(self.samples, explain, "noisy copies"):
            totals = totals or [values.new_zeros(len(batch), *values.shape[1:]) for _ in terms]
            for total, term in zip(totals, terms, strict=True):
                total.index_add_(0, rows, term(values, rows))
        return [total / self.samples for total in totals], flags


def copy_noise(batch: Batch, row: int, copy: int) -> Tensor:
    """Return the noise (C, H, W) of one copy of one image, on the CPU."""
    stream = generator(batch.context.seed, batch.hashes[row], "noise", str(copy))
    return torch.randn(batch.inputs.shape[1:], generator=stream, dtype=torch.float32, device="cpu")
