"""Ablation-CAM: activation maps weighted by how much the score drops without them.

    w_k = y - y_k        y = score(A),  y_k = score(A with channel k set to zero)
    map = relu(sum_k w_k A_k)

In words: Each channel of a layer is set to zero in turn, and the drop of the class score becomes the weight of that
channel's activation map. The positive part of the weighted sum is a coarse map of the regions that support the class;
evidence against the class is not shown. No gradient is needed, but unless the network ends in pooling and one linear
layer, the part after the layer runs once per active channel. Two channels that carry the same evidence may both get
little weight.

The result's params report the path that was used:
"closed-form"  pooling and one linear map follow the layer (verified by head.py): w_k = d y / d z . W_k mean A_k
"tail", "full" one run of the part after the layer per active channel, or of the whole network (tail.py)

Channels that are zero everywhere have weight 0 and need no forward.

divide "none"       as above
divide "magnitude"  w_k / |y|
divide "score"      w_k / y, the paper's formula, which inverts the whole map if y < 0

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Desai & Ramaswamy, WACV 2020, eq. 3-4.
Departs from source: no division by y, because it inverts the map of a class with a negative score.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.activation.head import linear_head, may_have_linear_head, score_by_logits, stays_linear
from xaikit.methods.activation.tail import Tail
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.target import Target
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class AblationCAM(LayerMethod):
    """Activation maps weighted by the drop of the score when their channel is set to zero.

    Args:
        divide: divisor of the weights: "none", the "magnitude" of the score, or the signed "score".
    """

    divide: Literal["none", "magnitude", "score"] = "none"

    name = "ablation-cam"
    family = "activation"
    source = "Desai & Ramaswamy, WACV 2020"
    signed = False
    needs = frozenset({"activations"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations = batch.activations(self.place)
        drops, path = self._drops(batch, activations)
        if self.divide != "none":
            divisor = batch.scores.abs() if self.divide == "magnitude" else batch.scores
            drops = drops / torch.where(divisor == 0, 1, divisor)[:, None].to(drops.dtype)
        return Values(torch.einsum("nk,nkhw->nhw", drops, activations).relu(), params={"path": path})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward if the head may be linear; otherwise at most one full forward per channel as well."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(1 if may_have_linear_head(self.classifier, channels) else 1 + channels, 0)

    def _drops(self, batch: Batch, activations: Tensor) -> tuple[Tensor, str]:
        """Return y - y_k (n, C) and the path used."""
        head, target = linear_head(batch, activations), batch.target
        normalised = self.classifier.outline().ends_in in ("softmax", "log-softmax") and target.against is None
        closed = head.weights is not None and target.function is None and not normalised
        if closed and head.weights is not None and stays_linear(batch, self.place, activations, head.weights):
            return (score_by_logits(batch, activations.dtype) @ head.weights) * activations.mean((2, 3)), "closed-form"
        rows, channels = activations.flatten(2).any(2).nonzero(as_tuple=True)

        def ablated(part: Tensor) -> Tensor:
            kept = activations.new_ones(len(part), activations.shape[1], 1, 1)
            kept[torch.arange(len(part), device="cpu"), channels[part]] = 0
            return kept

        scores, clean, path = Tail(batch, self.place, rows, ablated, Target.score, "ablated channels").answers()
        drops = activations.new_zeros(activations.shape[:2])
        drops[rows, channels] = (clean - scores).to(drops)
        return drops, path
