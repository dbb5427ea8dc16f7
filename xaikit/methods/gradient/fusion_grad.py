"""FusionGrad: the mean gradient over noisy copies of the image in networks with noisy weights.

    values = mean_ij v_ij        v_ij = d score_i / d x at x + e_j
    score_i by the weights w (*) (1 + u_i),  u_i ~ N(0, weight_level^2);  e_j ~ N(0, (level * range of x)^2)

In words: NoiseGrad and SmoothGrad together. The weights of the network and the pixels of the image are both changed at
random, and the gradients of all pairs of a network and a noisy image are averaged. The map is fine, signed and specific
to the class, with less speckle than that of a single gradient. Noise on the weights that is too strong gives networks
that recognise nothing: see the diagnostic `class_kept`. It costs 100 backwards by default.

It is noise-grad with smooth-grad as its base: all networks see the same noisy images. The weights, the diagnostic and
the flag `class-lost` are those of noise-grad. `base` names another method instead of the gradient.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`;
        (N, h, w) if the base method reads a layer.
Units:  those of the base method; for the gradient, score per standard deviation of the normalised input.
Source: Bykov, Hedström, Nakajima & Höhne, AAAI 2022, arXiv:2106.10185.
Departs from source: `weight_level` is fixed, as in noise-grad, and `level` is that of smooth-grad.
"""

from dataclasses import dataclass
from functools import cached_property

from xaikit.foundation.parameters import Count, NotNegative
from xaikit.methods.base import METHODS
from xaikit.methods.gradient.noise_grad import NoiseGrad
from xaikit.methods.gradient.smooth_grad import SmoothGrad


@METHODS.register
@dataclass(frozen=True)
class FusionGrad(NoiseGrad):
    """Mean of a method's values over noisy copies of the image and networks with noisy weights.

    Args:
        samples: number of noisy copies per image and network.
        level: standard deviation of the noise on the image, as a share of its range.
    """

    samples: Count = 10
    level: NotNegative = 0.15

    name = "fusion-grad"

    @cached_property
    def inner(self) -> SmoothGrad:
        """SmoothGrad, which each noisy network explains the images by."""
        return SmoothGrad(
            self.classifier, base=self.base, base_params=self.base_params, samples=self.samples, level=self.level
        )
