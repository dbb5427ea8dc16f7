"""VarGrad: the variance of the gradient over noisy copies of the image.

    values = sum_i (v_i - mean v)^2 / (n - 1)        v_i = d score / d x at x + e_i,  e_i ~ N(0, (level * range of x)^2)

In words: The gradient is computed for many noisy copies of the image, and the map shows how much it varies between
them. It is fine and never negative: a high value means that the effect of this pixel on the score depends on the noise
around it, not that it supports the class. A pixel whose effect is strong but constant gets nothing, and a linear
network gives an empty map. It costs as many passes as there are copies, and one more.

Deviations are measured from the values of the clean image and their mean is subtracted at the end: one pass, and no
difference of large numbers. `base` names another method instead of the gradient.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) averaged over channels, or (N, C, H, W) with `channels=True`;
        (N, h, w) if the base method reads a layer.
Units:  the square of those of the base method.
Source: Adebayo et al., NeurIPS 2018, section 2, arXiv:1810.03292.
Departs from source: divides by n - 1 unless `estimate="biased"`, which divides by n.
"""

from dataclasses import dataclass
from typing import Literal

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, Values
from xaikit.methods.gradient.noise import NoisyMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class VarGrad(NoisyMethod):
    """Variance of a method's values over noisy copies.

    Args:
        estimate: "unbiased" divides by n - 1, "biased" by n.
    """

    estimate: Literal["unbiased", "biased"] = "unbiased"

    name = "var-grad"
    source = "Adebayo et al., NeurIPS 2018, arXiv:1810.03292"
    signed = False
    reduction = "mean"

    def check(self) -> None:
        """Check the base method and that there are enough samples for a variance."""
        super().check()
        if self.estimate == "unbiased" and self.samples < 2:
            raise BadInput(f"samples: expected at least 2 for a variance, got {self.samples}; 50 is usual")

    def compute(self, batch: Batch) -> Values:
        """Return the variance, (n, C, H, W) or (n, h, w)."""
        clean = self.inner.compute(batch).values.detach()
        (square, mean), flags = self.means(
            batch,
            lambda values, rows: (values - clean[rows]) ** 2,
            lambda values, rows: values - clean[rows],
        )
        variance = (square - mean**2).clamp(min=0)
        if self.estimate == "unbiased":
            variance = variance * (self.samples / (self.samples - 1))
        return Values(variance, flags=flags, params=self.decided())

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the cost of the base method once per sample and once for the clean image."""
        clean, noisy = self.inner.cost(size), super().cost(size)
        return Cost(noisy.forwards + clean.forwards, noisy.backwards + clean.backwards)
