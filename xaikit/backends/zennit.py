"""zennit: its composites of relevance and gradient rules.

    values = gradient(inputs) under the composite, from a start at the class       (n, C, H, W), summed over channels

Found: every composite that it registers, with its canonizer of torchvision's networks unless another is given. The
start is the class's logit for relevance, so that values sum to it, and one for gradients and excitation. `low` and
`high`, where a composite asks for them, are black and white in the network's own coordinates.

Its rules see modules alone. Sums and products of activations that remain after the canonizers double the relevance or
lose it, so that composites of relevance refuse them; gradients see ReLU modules alone, and where one is a function,
images are flagged `functional-relu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.backends.generate import behind, guest_package, method_name, parameters, required
from xaikit.backends.guest import Guest, Model
from xaikit.extend import Family, InputMethod, Need, Values
from xaikit.foundation.errors import BadInput
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "zennit"
_OURS = ("layer_map", "first_map")
theirs = guest_package("zennit.composites", _DISTRIBUTION)
_canonizers = guest_package("zennit.torchvision", _DISTRIBUTION)

Start = Literal["logit", "one"]


@dataclass(frozen=True)
class Zennit(Guest, InputMethod):
    """A composite of zennit."""

    start: ClassVar[Start] = "logit"
    relevance: ClassVar[bool] = True

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return theirs, (n, C, H, W).

        Raises:
            BadInput: relevance on a network that adds or multiplies activations where zennit does not see it.
        """
        low, high = (self.classifier.normalize(torch.full_like(batch.pixels[:1], end)) for end in (0.0, 1.0))
        given = self.given(self.made_with, low=low, high=high, canonizers=[_canonizers.ResNetCanonizer()])
        inputs = batch.inputs.detach().requires_grad_(True)
        with self.theirs(**given).context(model) as changed:
            if self.relevance and (mixes := model.mixes(batch.inputs[:1])):
                raise BadInput(
                    f"{self.name}: expected a network without sums and products of activations, got {mixes} of them in "
                    f"{self.classifier.name}, at which zennit's relevance is not conserved; use lrp"
                )
            logits = changed(inputs)
            chosen = F.one_hot(classes, logits.shape[1]).to(logits)
            start = chosen * logits.detach() if self.start == "logit" else chosen
            (found,) = torch.autograd.grad(logits, inputs, start)
        unseen = not self.relevance and model.unseen_relus(batch.inputs[:1])
        return Values(found, flags=[{"functional-relu"} if unseen else set() for _ in range(len(batch))])

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward, and for relevance what each map is run anew."""
        return Cost(3 if self.relevance else 1, 3 if self.relevance else 1)


def _register(kind: Any) -> None:
    gradient = kind in (theirs.DeconvNet, theirs.GuidedBackprop, theirs.BetaSmooth)
    family: Family = "gradient" if gradient else "decomposition"
    excitation = kind is theirs.ExcitationBackprop
    behind(
        Zennit,
        kind,
        method_name(_PACKAGE, kind.__name__),
        _DISTRIBUTION,
        dict.fromkeys(required(kind)) | parameters(kind, _OURS),
        {},
        family=family,
        needs=frozenset[Need]({"input-gradient"}),
        start="one" if gradient or excitation else "logit",
        relevance=not gradient,
    )


for _kind in theirs.COMPOSITES.values():
    _register(_kind)
