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
"tail"         one image runs up to the layer, where it is expanded to a batch of one row per channel
"full"         full forwards, if the tail cannot take another batch size than the stem (concatenation across the layer)

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

from xaikit.foundation.memory import out_of_memory
from xaikit.methods.activation.head import linear_head, may_have_linear_head, score_by_logits, stays_linear
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_SMALL = 1e-3  # scores below this share of the largest logit are compared on the scale of the logits


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
        drops = self._tail(batch, activations)
        return (drops, "tail") if drops is not None else (self._full(batch, activations), "full")

    def _tail(self, batch: Batch, activations: Tensor) -> Tensor | None:
        """Return y - y_k from runs of the tail alone, or None if the tail cannot take another batch size."""
        drops = activations.new_zeros(activations.shape[:2])
        portion = max(2, batch.context.portion(batch.classifier, batch.size))
        for image in range(len(batch)):
            channels = activations[image].flatten(1).any(1).nonzero()[:, 0]
            for start in range(0, len(channels), portion - 1):
                ablated = channels[start : start + portion - 1]
                kept = torch.ones(len(ablated) + 1, activations.shape[1], 1, 1, dtype=torch.bool, device=ablated.device)
                kept[torch.arange(1, len(ablated) + 1, device="cpu"), ablated] = False
                scores = self._masked_scores(batch, image, kept)
                if scores is None or not _close(scores[0], batch.scores[image], batch.logits[image], batch.arithmetic):
                    return None
                drops[image, ablated] = (scores[0] - scores[1:]).to(drops.dtype)
                if batch.context.progress is not None:
                    last = start + len(ablated) == len(channels)
                    done = drops.shape[1] if last else int(ablated[-1]) + 1
                    batch.context.progress(image * drops.shape[1] + done, drops.numel(), "ablated channels")
        return drops

    def _masked_scores(self, batch: Batch, image: int, kept: Tensor) -> Tensor | None:
        """Return the scores (m,) of one image, each with the channels in a row of `kept` (m, C, 1, 1)."""
        place = self.place
        rows = torch.full((len(kept),), image, device=kept.device)
        batch.context.counters.forwards += len(kept)
        with torch.no_grad(), batch.classifier.probe() as probe:
            probe.replace(place, lambda output: place.changed(output, lambda maps: maps * kept))
            try:
                logits = batch.context.run(batch.classifier, batch.inputs[image : image + 1])
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                return None
        return batch.target.take(rows).score(logits) if len(logits) == len(kept) else None

    def _full(self, batch: Batch, activations: Tensor) -> Tensor:
        """Return y - y_k from one full forward per image and channel."""
        place = self.place
        rows, channels = activations.flatten(2).any(2).nonzero(as_tuple=True)

        def ablated_scores(pairs: Tensor) -> Tensor:
            ablated = torch.zeros(len(pairs), activations.shape[1], 1, 1, dtype=torch.bool, device=pairs.device)
            ablated[torch.arange(len(pairs), device="cpu"), channels[pairs]] = True
            with batch.classifier.probe() as probe:
                probe.replace(place, lambda output: place.changed(output, lambda maps: _zeroed(maps, ablated)))
                return batch.scores_of(batch.inputs[rows[pairs]], rows[pairs])

        drops = activations.new_zeros(activations.shape[:2])
        for pairs, scores in batch.packed(len(rows), ablated_scores, "ablated images"):
            drops[rows[pairs], channels[pairs]] = (batch.scores[rows[pairs]] - scores).to(drops.dtype)
        return drops


def _zeroed(maps: Tensor, ablated: Tensor) -> Tensor:
    """Return the maps with the channels in `ablated` (m, C, 1, 1) set to zero; padding rows are unchanged."""
    changed = maps.clone()
    changed[: len(ablated)].masked_fill_(ablated, 0)
    return changed


def _close(score: Tensor, expected: Tensor, logits: Tensor, arithmetic: torch.dtype) -> bool:
    """Return whether two scores of an image are equal, up to rounding of the score and of the logits (K,)."""
    tolerance = max(1e-3, 8 * torch.finfo(arithmetic).eps)
    return bool((score - expected).abs() <= tolerance * torch.maximum(expected.abs(), _SMALL * logits.abs().amax()))
