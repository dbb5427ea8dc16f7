"""zennit: its composites of relevance and gradient rules.

    values = gradient(inputs) under the composite, from a start at the class       (n, C, H, W), summed over channels

Included: every registered composite, by default with zennit's ResNet canonizer. The start is the logit of the class for
relevance, so that values sum to it, and 1 for gradients and excitation. `low` and `high`, if a composite requires them,
are black and white after normalisation.

zennit's rules see modules only. Composites of relevance refuse networks with sums or products of activations that
remain after the canonizers, which would double or lose relevance. Gradients see ReLU modules only; images are flagged
`functional-relu` if a ReLU is a function.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.backends.foreign_method import Guest, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters, required
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
        """Return zennit's values (n, C, H, W).

        Raises:
            BadInput: relevance on a network that adds or multiplies activations outside modules known to zennit.
        """
        low, high = (self.classifier.normalize(torch.full_like(batch.pixels[:1], value)) for value in (0.0, 1.0))
        options = self.given(self.made_with, low=low, high=high, canonizers=[_canonizers.ResNetCanonizer()])
        inputs = batch.inputs.detach().requires_grad_(True)
        with self.theirs(**options).context(model) as changed:
            if self.relevance and (mixes := model.mixes(batch.inputs[:1])):
                raise BadInput(
                    f"{self.name}: expected a network without sums and products of activations, got {mixes} of them in "
                    f"{self.classifier.name}, where zennit's relevance is not conserved; use lrp"
                )
            logits = changed(inputs)
            one_hot = F.one_hot(classes, logits.shape[1]).to(logits)
            start = one_hot * logits.detach() if self.start == "logit" else one_hot
            (values,) = torch.autograd.grad(logits, inputs, start)
        unseen = not self.relevance and model.unseen_relus(batch.inputs[:1])
        return Values(values, flags=[{"functional-relu"} if unseen else set() for _ in range(len(batch))])

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward; for relevance three of each, as each map is recomputed."""
        passes = 3 if self.relevance else 1
        return Cost(passes, passes)


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
