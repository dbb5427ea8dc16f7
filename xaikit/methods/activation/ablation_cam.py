"""Ablation-CAM: activation maps weighted by how much the score drops without them.

    w_k = y - y_k        y = score(A),  y_k = score(A with channel k set to zero)
    map = relu(sum_k w_k A_k)

The path taken stands in the params:
"closed-form"  pooling and one linear map follow the layer (head.py finds it in numbers): w_k = d y / d z . W_k mean A_k
"tail"         one image runs to the layer, where the batch is opened into one row a channel
"full"         the tail cannot take another batch than the stem (a concatenation across the layer): full forwards

Channels that are zero everywhere have weight 0 and are not run.

divide "none"       as above
divide "magnitude"  w_k / |y|
divide "score"      w_k / y, the paper's formula, which turns the whole map round where y < 0

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Desai & Ramaswamy, WACV 2020, eq. 3-4.
Departs from source: the division by y is left out, because it flips the map of a class with a negative score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.memory import out_of_memory
from xaikit.methods.activation.head import linear_head, may_have_linear_head, score_by_logits
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class AblationCAM(LayerMethod):
    """Activation maps weighted by the drop of the score when the channel is set to zero.

    Args:
        divide: "none", by the score's "magnitude", or by the signed "score".
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
            by = batch.scores.abs() if self.divide == "magnitude" else batch.scores
            drops = drops / torch.where(by == 0, 1, by)[:, None]
        return Values(torch.einsum("nk,nkhw->nhw", drops, activations).relu(), params={"path": path})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward where the head may be linear; else a full forward a channel, which is the most."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(1 if may_have_linear_head(self.classifier, channels) else 1 + channels, 0)

    def _drops(self, batch: Batch, activations: Tensor) -> tuple[Tensor, str]:
        """Return y - y_k (n, C) and the path taken."""
        head, target = linear_head(batch, activations), batch.target
        normalised = self.classifier.outline().ends_in in ("softmax", "log-softmax") and target.against is None
        if head.weights is not None and target.function is None and not normalised:
            return (score_by_logits(batch) @ head.weights) * activations.mean((2, 3)), "closed-form"
        found = self._tail(batch, activations)
        return (found, "tail") if found is not None else (self._full(batch, activations), "full")

    def _tail(self, batch: Batch, activations: Tensor) -> Tensor | None:
        """Return drops with the batch opened at the layer, or None where the tail does not allow it."""
        drops = activations.new_zeros(activations.shape[:2])
        portion = max(2, batch.context.portion(batch.classifier, batch.size))
        for image in range(len(batch)):
            channels = activations[image].flatten(1).any(1).nonzero()[:, 0]
            for start in range(0, len(channels), portion - 1):
                some = channels[start : start + portion - 1]
                kept = torch.ones(len(some) + 1, activations.shape[1], 1, 1, dtype=torch.bool, device=some.device)
                kept[torch.arange(1, len(some) + 1, device="cpu"), some] = False
                scores = self._opened(batch, image, kept)
                if scores is None or not _close(scores[0], batch.scores[image], batch.arithmetic):
                    return None
                drops[image, some] = scores[0] - scores[1:]
        return drops

    def _opened(self, batch: Batch, image: int, kept: Tensor) -> Tensor | None:
        """Return the scores (m,) of one image whose activations are kept by the rows of `kept` (m, C, 1, 1)."""
        rows = torch.full((len(kept),), image, device=kept.device)
        batch.context.counters.forwards += len(kept)
        with torch.no_grad(), batch.classifier.probe() as probe:
            probe.replace(self.place, lambda activation: activation * kept)
            try:
                logits = batch.context.run(batch.classifier, batch.inputs[image : image + 1])
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                return None
        return batch.target.take(rows).score(logits) if len(logits) == len(kept) else None

    def _full(self, batch: Batch, activations: Tensor) -> Tensor:
        """Return drops by one full forward a channel, pairs of all images packed."""
        rows, channels = activations.flatten(2).any(2).nonzero(as_tuple=True)

        def ablated(places: Tensor) -> Tensor:
            silent = torch.zeros(len(places), activations.shape[1], 1, 1, dtype=torch.bool, device=places.device)
            silent[torch.arange(len(places), device="cpu"), channels[places]] = True
            with batch.classifier.probe() as probe:
                probe.replace(self.place, lambda activation: _silenced(activation, silent))
                return batch.scores_of(batch.inputs[rows[places]], rows[places])

        drops = activations.new_zeros(activations.shape[:2])
        for places, found in batch.packed(len(rows), ablated, "ablated images"):
            drops[rows[places], channels[places]] = batch.scores[rows[places]] - found
        return drops


def _silenced(activation: Tensor, silent: Tensor) -> Tensor:
    """Set channels to zero in the rows that `silent` (m, C, 1, 1) speaks of; padding rows stay."""
    changed = activation.clone()
    changed[: len(silent)].masked_fill_(silent, 0)
    return changed


def _close(found: Tensor, expected: Tensor, arithmetic: torch.dtype) -> bool:
    tolerance = max(1e-3, 8 * torch.finfo(arithmetic).eps)
    return bool((found - expected).abs() <= tolerance * expected.abs().clamp_min(1e-3))
