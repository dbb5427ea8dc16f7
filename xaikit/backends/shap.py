"""shap: its explainers of PyTorch modules by gradients.

    values = explainer(model of one class, background).shap_values(image)        (1, C, H, W), summed over channels

Found: DeepExplainer (DeepLIFT averaged over a background) and GradientExplainer (expected gradients). Theirs explain
every output of a model one after the other, a thousand times what was asked for; here the model that they see has the
one class of the image. Each image is explained alone, with the same seed, so that it does not depend on the batch.

What theirs leave open is chosen here and may be given instead:
    data     pictures drawn by core/references.py; in the network's own coordinates
    rseed    the seed of the run

ReLUs in place break their hooks, so they are switched to write elsewhere, on the copy. DeepExplainer knows modules by
the names of their classes and takes functions for linear; where its values miss the difference that they promise by
more than 1 %, it raises, or with `check_additivity=False` images are flagged `incomplete`. The gap stands in
`completeness`.

KernelExplainer and PartitionExplainer are in shap_perturbation.py. Left out: those that ask for features of a table.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xaikit.backends import shap_perturbation  # noqa: F401 - its explainers register themselves
from xaikit.backends.generate import behind, guest_package, method_name, parameters
from xaikit.backends.guest import Guest, Model
from xaikit.extend import InputMethod, Need, Values
from xaikit.images.references import draw_references
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "shap"
_MODEL = ("model", "session", "learning_phase_flags")
_CALL = ("X", "ranked_outputs", "output_rank_order", "return_variances")
_REFERENCES = 8
_GAP = 0.01
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    theirs = guest_package("shap", _DISTRIBUTION)


class OneClass(nn.Module):
    """A model with the one output that is explained.

    Args:
        model: gives logits (n, K).
        index: of the class.
    """

    def __init__(self, model: Model, index: int) -> None:
        super().__init__()
        self.model = model
        self.index = index

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logit (n, 1) of the class."""
        logits: Tensor = self.model(inputs)
        return logits[:, self.index : self.index + 1]


@dataclass(frozen=True)
class Explainer(Guest, InputMethod):
    """An explainer that compares images with a background."""

    reduction = "sum"

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return theirs, (n, C, H, W)."""
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        drawn = draw_references(_REFERENCES, batch.inputs.shape[1], batch.size).to(batch.inputs)
        made = self.given(self.made_with, data=self.classifier.normalize(drawn))
        called = self.given(self.called_with, rseed=batch.context.seed % 2**32)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for image, index in zip(torch.split(batch.inputs, 1), classes.tolist(), strict=True):
                explainer = self.theirs(OneClass(model, index), **made)
                values = explainer.shap_values(image.detach().clone(), **called)
                found.append(torch.as_tensor(values).reshape(image.shape).to(image))
        return self.read(torch.cat(found), model, made["data"], classes)

    def read(self, values: Tensor, model: Model, background: Tensor, classes: Tensor) -> Values:
        """Return what is told of their values."""
        return Values(values)


@dataclass(frozen=True)
class Deep(Explainer):
    """DeepExplainer, whose values promise a sum."""

    def read(self, values: Tensor, model: Model, background: Tensor, classes: Tensor) -> Values:
        """Return the values with their gap to the difference of the scores."""
        with torch.no_grad():
            expected = model(background).mean(0)[classes]
        return Values(values, diagnostics={"background": expected})

    def compute(self, batch: Batch) -> Values:
        """Run theirs and compare its sum with the scores."""
        found = super().compute(batch)
        promised = batch.scores - found.diagnostics.pop("background")
        gap = found.values.flatten(1).sum(1) - promised
        missed = (gap.abs() > _GAP * promised.abs()).tolist()
        return Values(found.values, completeness=gap, flags=[{"incomplete"} if one else set() for one in missed])

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward of the image and of the background, for each picture of it."""
        return Cost(1 + 2 * _REFERENCES, 2 * _REFERENCES)


@dataclass(frozen=True)
class Gradient(Explainer):
    """GradientExplainer, which draws points between the image and the background."""

    nsamples: int = 200

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward a sample."""
        return Cost(1 + _REFERENCES + self.nsamples, self.nsamples)


for _base, _kind in ((Deep, theirs.DeepExplainer), (Gradient, theirs.GradientExplainer)):
    behind(
        _base,
        _kind,
        method_name(_PACKAGE, _kind.__name__),
        _DISTRIBUTION,
        parameters(_kind, _MODEL),
        parameters(_kind.shap_values, _CALL),
        family="gradient",
        needs=frozenset[Need]({"input-gradient"}),
    )
