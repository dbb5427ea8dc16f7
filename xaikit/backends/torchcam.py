"""torchcam: its class activation maps.

    map = relu(sum_k w_k A_k), without the ReLU for CAM, at the layer's own size

Included: every public extractor. The default here is `normalized=False`, which gives raw values; torchcam's is True.

Left out: LeGrad, which reads transformer blocks, and RefineCAM, which multiplies the maps of several layers.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xaikit.backends.foreign_method import GuestLayer, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters
from xaikit.extend import Need, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "torchcam"
_OURS = ("model", "target_layer", "input_shape", "enable_hooks", "reshape_transform")
_LEFT_OUT = ("LeGrad", "RefineCAM")

theirs = guest_package("torchcam.methods", _DISTRIBUTION)


@dataclass(frozen=True)
class Extractor(GuestLayer):
    """A torchcam extractor, which hooks a layer before the model runs."""

    normalized: bool = False

    gradients = True
    by_channel = False

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return torchcam's maps (n, h, w)."""
        options = self.given(self.made_with)
        if options.get("fc_layer") is not None:
            options["fc_layer"] = model.part(options["fc_layer"])
        if self.place.grid is not None:
            options["reshape_transform"] = self.place.to_grid
        extractor = self.theirs(model, model.part(self.place.name), **options)
        scores = model(batch.inputs.detach().requires_grad_(self.gradients))
        (maps,) = extractor(classes.tolist(), scores=scores, normalized=self.normalized)
        return Values(maps)

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward per sample; for Score-CAM variants, a forward per channel and sample."""
        samples = getattr(self, "num_samples", 1)
        if self.by_channel:
            return Cost(2 + samples * self.classifier.layers()[self.place.name][0], 0)
        return Cost(1 + samples * (samples > 1), samples if self.gradients else 0)


def _register(kind: Any) -> None:
    gradients = not issubclass(kind, theirs.activation.CAM | theirs.activation.ScoreCAM)
    behind(
        Extractor,
        kind,
        method_name(_PACKAGE, kind.__name__),
        _DISTRIBUTION,
        parameters(kind, _OURS),
        {},
        family="activation",
        signed=kind is theirs.CAM,
        needs=frozenset[Need]({"gradients"} if gradients else {"activations"}),
        gradients=gradients,
        by_channel=issubclass(kind, theirs.ScoreCAM),
        draws=issubclass(kind, theirs.SSCAM | theirs.SmoothGradCAMpp),
    )


for _module in (theirs.activation, theirs.gradient):
    for _name in _module.__all__:
        if _name not in _LEFT_OUT and inspect.isclass(getattr(_module, _name)):
            _register(getattr(_module, _name))
