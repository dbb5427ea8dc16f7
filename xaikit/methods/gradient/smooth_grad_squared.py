"""SmoothGrad squared: the mean squared gradient over noisy copies of the image.

    values = mean_i v_i^2      v_i = d score / d x at x + e_i,  e_i ~ N(0, (level * range of x)^2)

In words: The gradient is computed for many noisy copies of the image and squared before it is averaged. The map is fine
and never negative: it shows where the score is sensitive, on average or at times, and not in which direction. Squaring
makes the largest values stand out and the rest of the map dark. Values are squared gradients and do not add up to
anything. Take SmoothGrad where the sign matters, VarGrad for the variation alone.

It equals the square of SmoothGrad plus the (biased) variance of VarGrad. `base` names another method instead of the
gradient.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) averaged over channels, or (N, C, H, W) with `channels=True`;
        (N, h, w) if the base method reads a layer.
Units:  the square of those of the base method.
Source: Hooker et al., NeurIPS 2019, section 3.1, arXiv:1806.10758.
Departs from source: nothing.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, Values
from xaikit.methods.gradient.noise import NoisyMethod
from xaikit.run.batch import Batch


@METHODS.register
@dataclass(frozen=True)
class SmoothGradSquared(NoisyMethod):
    """Mean square of a method's values over noisy copies."""

    name = "smooth-grad-squared"
    source = "Hooker et al., NeurIPS 2019, arXiv:1806.10758"
    signed = False
    reduction = "mean"

    def compute(self, batch: Batch) -> Values:
        """Return the mean square, (n, C, H, W) or (n, h, w)."""
        (mean,), flags = self.means(batch, lambda values, rows: values**2)
        return Values(mean, flags=flags, params=self.decided())
