"""Guided Grad-CAM: guided backpropagation times the Grad-CAM map.

    values = guided * U(relu(sum_k mean_xy(d score / d A_k) * A_k))        U: bilinear upsampling to the image size

In words: The fine map of guided backpropagation is multiplied by the enlarged Grad-CAM map. The product is as sharp as
the first and limited to the regions that the second finds for the class. Its values have no unit, and their sign comes
from guided backpropagation alone, so negative does not mean against the class. Most of what it tells of the class comes
from the coarse Grad-CAM map; the detail within a region changes little with the class.

Shapes: inputs (N, C, H, W) in [0, 1]; A (N, K, h, w); values (N, H, W) summed over channels, or (N, C, H, W) with
        `channels=True`.
Units:  none.
Source: Selvaraju et al., ICCV 2017, section 3.1, arXiv:1610.02391.
Departs from source: see grad-cam and guided-backprop.
"""

from dataclasses import dataclass

from xaikit.images.shapes import upsample
from xaikit.methods.activation.grad_cam import GradCAM
from xaikit.methods.base import METHODS, InputMethod, LayerMethod, Values
from xaikit.methods.gradient.rectifiers import rectified_gradients
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class GuidedGradCAM(InputMethod, LayerMethod):
    """Guided backpropagation times Grad-CAM."""

    name = "guided-grad-cam"
    family = "gradient"
    source = "Selvaraju et al., ICCV 2017, arXiv:1610.02391"
    needs = frozenset({"gradients", "input-gradient"})
    passes = Cost(2, 1.05)

    def compute(self, batch: Batch) -> Values:
        """Return the guided gradient times the upsampled map, (n, C, H, W)."""
        maps = GradCAM(self.classifier, self.layer).compute(batch).values
        guided, flags = rectified_gradients(batch, "guided", self.name)
        return Values(guided * upsample(maps, batch.size)[:, None], flags=flags)
