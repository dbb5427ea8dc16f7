"""Finer-CAM: Grad-CAM of what sets a class apart from the classes that the network takes for most similar.

    score' = z_c - strength * mean_d z_d      d: the `classes` classes with the smallest |z_d - z_c|
    map    = relu(sum_k mean_xy(d score' / d A_k) * A_k)

In words: Grad-CAM explains all the evidence for a class, also what it shares with similar classes. Here the logits of
the most similar classes, those nearest to the class's own logit, are subtracted first, so that the map shows where the
picture looks like this class and not like those. It is coarse and shows support only. With strength 0 it is Grad-CAM;
a region that all similar classes share gets little, even where the class depends on it.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  score per unit of activation, times activation; not normalised.
Source: Zhang et al., CVPR 2025, arXiv:2501.11309.
Departs from source: a network with fewer than `classes` other classes is compared with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.target import Target
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class FinerCAM(LayerMethod):
    """Grad-CAM of a class's logit minus the mean logit of the most similar classes.

    Args:
        classes: number of similar classes to compare with.
        strength: factor of their mean logit; 0 is Grad-CAM.
    """

    classes: Count = 3
    strength: NotNegative = 0.6

    name = "finer-cam"
    family = "activation"
    source = "Zhang et al., CVPR 2025, arXiv:2501.11309"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(2, 0.05)

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w).

        Raises:
            BadInput: the target is not a class, or the network has no other class.
        """
        batch.target.require_class(self.name)
        if batch.logits.shape[1] < 2:
            raise BadInput(f"{self.name}: expected a network of two classes or more, got one output; take grad-cam")
        others = similar_classes(batch.logits, batch.target.index, self.classes)
        finer = batch.at(batch.inputs, torch.arange(len(batch), device=batch.inputs.device))
        finer.target = _Finer(**vars(batch.target), others=others, strength=self.strength)
        activations, gradients = finer.activations_and_gradients(self.place)
        maps = torch.einsum("nk,nkhw->nhw", gradients.mean((2, 3)), activations).relu()
        return Values(maps, params={"compared": [tuple(row) for row in others.tolist()]})


@dataclass(frozen=True, eq=False, kw_only=True)
class _Finer(Target):
    """A class against the mean of others.

    Args:
        others: (N, m) int64, the classes each class is compared with.
        strength: factor of their mean logit.
    """

    others: Tensor
    strength: float

    def score(self, logits: Tensor) -> Tensor:
        """Return z_c - strength * mean_d z_d (N,) of logits (N, K)."""
        return super().score(logits) - self.strength * logits.gather(1, self.others).mean(1)

    def take(self, rows: Tensor | slice) -> _Finer:
        """Return the target of the images `rows`."""
        return _Finer(**vars(super().take(rows)) | {"others": self.others[rows]})


def similar_classes(logits: Tensor, index: Tensor, count: int) -> Tensor:
    """Return at most `count` classes (N, m), those whose logit (N, K) is nearest to that of class `index` (N,)."""
    distance = (logits - logits.gather(1, index[:, None])).abs().scatter(1, index[:, None], torch.inf)
    return distance.argsort(dim=1, stable=True)[:, : min(count, logits.shape[1] - 1)]
