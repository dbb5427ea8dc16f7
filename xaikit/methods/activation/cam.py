"""CAM: activation maps weighted by the linear layer that follows global average pooling.

    map = sum_k W_ck * A_k        with  z_c = mean_xy map + b_c

In words: The network must end in global average pooling and one linear layer. The activation maps before the pooling
are added up, each with the weight that the linear layer gives it for the class. The map is coarse and signed: positive
regions raise the class's logit, negative ones lower it, and its mean is the logit without its bias. It costs one
forward. Networks with another head are refused; take Grad-CAM for them.

Whether the head has that form is verified numerically (head.py). If the head pools one channel per class without a
linear layer after it (SqueezeNet), that channel is the map: map = A_c with z_c = mean_xy map.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Units:  score; the map's mean is the logit without its bias.
Source: Zhou et al., CVPR 2016, eq. 1-2, arXiv:1512.04150.
Departs from source: nothing; class maps of fully convolutional heads follow Lin et al., Network in Network, 2014.
"""

from dataclasses import dataclass

import torch

from xaikit.foundation.errors import BadInput
from xaikit.methods.activation.head import linear_head, score_by_logits
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class CAM(LayerMethod):
    """Activation maps weighted by the weights of the linear head."""

    name = "cam"
    family = "activation"
    source = "Zhou et al., CVPR 2016, arXiv:1512.04150"
    needs = frozenset({"activations"})
    passes = Cost(1, 0)

    @property
    def place(self) -> Layer:
        """The layer that is pooled; for a fully convolutional head, the class map."""
        outline = self.classifier.outline()
        layer = self.classifier.resolve_layer(self.layer)
        return outline.class_map if outline.class_map is not None and layer == outline.default else layer

    def compute(self, batch: Batch) -> Values:
        """Return sum_k W_ck A_k, (n, h, w).

        Raises:
            BadInput: the head is not global average pooling and one linear map.
        """
        activations = batch.activations(self.place)
        logit_gradients = score_by_logits(batch, activations.dtype)
        if self.place == self.classifier.outline().class_map:
            if self.classifier.output == "binary":  # one map for [-z, z]
                logit_gradients = logit_gradients[:, 1:] - logit_gradients[:, :1]
            return Values(torch.einsum("nk,nkhw->nhw", logit_gradients, activations))
        head = linear_head(batch, activations)
        if head.weights is None:
            raise BadInput(
                f"cam: expected a head of global average pooling and one linear map after {str(self.place)!r}, "
                f"{head.reason}; use grad-cam"
            )
        return Values(torch.einsum("nk,nkhw->nhw", logit_gradients @ head.weights, activations))
