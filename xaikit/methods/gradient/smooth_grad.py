"""SmoothGrad: the mean gradient over noisy copies of the image.

    values = mean_i v_i        v_i = d score / d x at x + e_i,  e_i ~ N(0, (level * range of x)^2)

In words: The gradient is computed for many copies of the image with random noise, 50 by default, and averaged, which
removes much of the speckle of a single gradient. The map is fine, signed and specific to the class. It describes the
noisy copies as much as the image: more noise gives smoother maps and images less like the training data. Any other
method can be averaged in the same way with `base`. It costs as many passes as there are copies.

`base` names another method to smooth instead of the gradient, such as integrated-gradients or grad-cam.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`;
        (N, h, w) if the base method reads a layer.
Units:  those of the base method; for the gradient, score per standard deviation of the normalised input.
Source: Smilkov et al., 2017, arXiv:1706.03825, section 3.
Departs from source: signed values are averaged; absolute values, if wanted, are taken of the mean.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, Values
from xaikit.methods.gradient.noise import NoisyMethod
from xaikit.run.batch import Batch


@METHODS.register
@dataclass(frozen=True)
class SmoothGrad(NoisyMethod):
    """Mean of a method's values over noisy copies."""

    name = "smooth-grad"
    source = "Smilkov et al. 2017, arXiv:1706.03825"

    def compute(self, batch: Batch) -> Values:
        """Return the mean, (n, C, H, W) or (n, h, w)."""
        (mean,), flags = self.means(batch, lambda values, rows: values)
        return Values(mean, flags=flags, params=self.decided())
